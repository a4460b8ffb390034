#!/bin/sh
# width.sh SOURCE-FOLDER: no line of the rooms below is wider than 120 columns, a tab reaching to the next multiple of 8.
# In host, tests and examples a row of a table may be, also in a comment, and what has a remark behind it. No line of the
# documents is wider than 130.
cd "$1" || exit 2
most=120

# wide NAME [rows]: file:line and width of what is too wide in the text on stdin; rows: but for rows of tables
wide() {
	expand -t 8 | awk -v name="$1" -v most=$most -v rows="$2" '
		length($0) <= most { next }
		rows && (/^ *[{#[]/ || /^ [*]      / || /\\$/ || /^ *static const struct [{]/ || /; +\/\*/ || /PF_T\(/) { next }
		{ print name ":" NR ": " length($0) " columns" }'
}

# 119 columns and a tab end at 120, with one more character at 121; a row is one only where rows are looked for
fits=$(printf '%0119d\t' 0 | wide self-test; printf '\t{ %0119d },\n' 0 | wide self-test rows)
spoiled=$(printf '%0119d\tx\n' 0 | wide self-test rows)
row=$(printf '\t{ %0119d },\n' 0 | wide self-test)
[ -z "$fits" ] && [ -n "$spoiled" ] && [ -n "$row" ] || { echo "self-test: $fits, $spoiled, $row"; exit 1; }

# Still to be wrapped: names leave this list, none joins it
later=" host/model/decoder_open.h host/model/lora.h
 "

files=$(find hls driver sim bitstreams include -name '*.[ch]' -o -name '*.def' -o -name CMakeLists.txt | sort)
sources=$(find host tests examples -name '*.[ch]' | sort)
faults=$(for file in $files; do wide "$file" < "$file"; done
	for file in $sources; do
		case $later in
		*[[:space:]]"$file"[[:space:]]*) ;;
		*) wide "$file" rows < "$file" ;;
		esac
	done)
# Prose may be a little wider; rows of its tables are as wide as they need to be
prose=130
faults=$faults$(for file in *.md; do
	LC_ALL=C.UTF-8 grep -nE "^[^|].{$prose,}" "$file" | sed "s/^\([0-9]*\):.*/$file:\1: more than $prose columns/"
done)
[ -z "$faults" ] || { echo "$faults"; exit 1; }
echo "$(echo "$files" "$sources" | wc -w) files, none wider than $most columns"
