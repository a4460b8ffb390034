#!/bin/sh
# run.sh BUILD [bench...]: runs the benchmarks of a build and writes tests/bench/results/<bench>.csv, each row with the
# machine, the commit and the day. Without names: those that `make bench` runs.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
build=$1
shift
[ $# -gt 0 ] || set -- logprob body linear torch_logprob
mkdir -p "$here/results"
machine="$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1 | tr ',' ' '), $(nproc) processors"
commit=$(git -C "$here" rev-parse --short HEAD 2>/dev/null || echo none)
[ -z "$(git -C "$here" status --porcelain -- :/hls :/driver :/sim :/host :/include 2>/dev/null)" ] || commit=$commit+
tail="\"$machine\",$commit,$(date -u +%Y-%m-%d)"

table() {                               # rows from stdin, with the three columns behind them
	awk -v tail="$tail" '{ print $0 "," (NR == 1 ? "machine,commit,date" : tail); fflush() }'
}

for bench; do
	out="$here/results/$bench.csv"
	if [ -x "$build/tests/bench/bench_$bench" ]; then
		"$build/tests/bench/bench_$bench" | table | tee "$out.new"
	elif python=$(command -v /usr/bin/python3 || command -v python3) && "$python" -c 'import torch' 2>/dev/null; then
		"$python" "$here/$bench.py" 1024 "$(nproc)" | table | tee "$out.new"
	else
		echo "$bench: left out: python3-torch is not installed" >&2
		continue
	fi
	mv "$out.new" "$out"
done
