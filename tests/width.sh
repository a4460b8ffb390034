#!/bin/sh
# width.sh SOURCE-FOLDER: no line of the rooms below is wider than 120 columns, a tab reaching to the next multiple of 8.
cd "$1" || exit 2
most=120

# wide NAME: file:line and width of what is too wide in the text on stdin
wide() {
	expand -t 8 | awk -v name="$1" -v most=$most 'length($0) > most { print name ":" NR ": " length($0) " columns" }'
}

# 119 columns and a tab end at 120, with one more character at 121
fits=$(printf '%0119d\t' 0 | wide self-test)
spoiled=$(printf '%0119d\tx\n' 0 | wide self-test)
[ -z "$fits" ] && [ -n "$spoiled" ] || { echo "self-test: $fits, $spoiled"; exit 1; }

files=$(find hls driver sim bitstreams include -name '*.[ch]' -o -name '*.def' -o -name CMakeLists.txt | sort)
faults=$(for file in $files; do wide "$file" < "$file"; done)
[ -z "$faults" ] || { echo "$faults"; exit 1; }
echo "$(echo "$files" | wc -l) files, none wider than $most columns"
