#!/bin/sh
# run.sh BUILD [table...]: measures with a build and writes tests/bench/results/<table>.csv, each row with the machine,
# the commit and the day. Without names: those that `make bench` makes. kernels and steps are `prefpga bench`; energy and
# sweeps are `prefpga advise`, sweeps with drawings; body, head, precision, filter are what bench_<name>
# prints; torch_logprob and torch_linear need python3-torch.
# linear_memory is the program of the long test head_memory_large: 10 GB of memory, some minutes.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
build=$1
shift
[ $# -gt 0 ] || set -- kernels steps energy sweeps body head torch_logprob torch_linear
mkdir -p "$here/results"
machine="$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1 | tr ',' ' '), $(nproc) processors"
commit=$(git -C "$here" rev-parse --short HEAD 2>/dev/null || echo none)
[ -z "$(git -C "$here" status --porcelain -- :/hls :/driver :/sim :/host :/include 2>/dev/null)" ] || commit=$commit+
tail="\"$machine\",$commit,$(date -u +%Y-%m-%d)"

table() {                               # rows from stdin, with the three columns behind them
	awk -v tail="$tail" '{ print $0 "," (NR == 1 ? "machine,commit,date" : tail); fflush() }'
}

bench() {                               # bench FILE OPTIONS...: rows of prefpga bench, which has machine and day
	csv=$1
	shift
	"$build/prefpga" bench --csv "$csv.part" "$@"
	commit_behind "$csv.part" "$csv"
}

commit_behind() {                       # adds the commit to the rows of a table
	awk -v commit="$commit" '{ print $0 "," (NR == 1 ? "commit" : commit) }' "$1" > "$2"
	rm "$1"
}

# The demo's model with about the scored tokens of its steps, and GPT-2's head (124 M parameters): trained, and as a
# frozen reference in every precision
energy() {                              # energy FILE
	"$build/prefpga" advise --model "$here/../../examples/demo/base" --tokens 1024 --card u55c,u280,u250,u50 \
		--csv "$1.all" > "$1.text"
	gpt2 "$1"
	for precision in fp32 bf16 mxint8; do
		gpt2 "$1" --head reference --reference-precision $precision
	done
	commit_behind "$1.all" "$1"
	rm "$1.gpt2" "$1.text"
}

gpt2() {                                # gpt2 FILE OPTIONS...: rows behind FILE.all
	rows=$1
	shift
	"$build/prefpga" advise --model-shape 768,50257,12 --tokens 8192 --card u55c,u280,u250,u50 --csv "$rows.gpt2" \
		"$@" >> "$rows.text"
	tail -n +2 "$rows.gpt2" >> "$rows.all"
}

sweeps() {
	for what in cards cus tokens vocab depth; do
		"$build/prefpga" advise --model-shape 768,50257,12 --tokens 8192 --sweep $what --csv "$here/results/part" \
			--svg "$here/results/sweep_$what.svg"
		commit_behind "$here/results/part" "$here/results/sweep_$what.csv"
	done
	"$build/prefpga" advise --model "$here/../../examples/demo/base" --tokens 1024 --sweep cards \
		--csv "$here/results/part" --svg "$here/results/sweep_cards_demo.svg"
	commit_behind "$here/results/part" "$here/results/sweep_cards_demo.csv"
}

heads=linear_logprob,linear_logprob-bf16,linear_logprob-mxint8,linear_grad,linear_grad-bf16
for table; do
	out="$here/results/$table.csv"
	if [ "$table" = kernels ]; then
		bench "$out.new" --shapes "8192,32000 2048,128256" --device cpu,cpu:avx2,cpu:baseline,sim,model:u55c \
			--work logprob,logprob-bf16,logit_grad,logit_grad-bf16
	elif [ "$table" = steps ]; then
		bench "$out.new" --shapes "demo gpt2 qwen2-0.5b" --device cpu,model:u55c \
			--work "$heads,linear_grad_recompute,pref,step"
	elif [ "$table" = energy ]; then
		energy "$out.new"
	elif [ "$table" = sweeps ]; then
		sweeps
		continue
	elif [ "$table" = linear_memory ]; then
		"$build/tests/bench/bench_linear_memory" "$build/prefpga" 8192 256000 2304 --csv > "$out.part"
		table < "$out.part" | tee "$out.new"
		rm "$out.part"
	elif [ -x "$build/tests/bench/bench_$table" ]; then
		"$build/tests/bench/bench_$table" | table | tee "$out.new"
	elif python=$(command -v /usr/bin/python3 || command -v python3) && "$python" -c 'import torch' 2>/dev/null; then
		"$python" "$here/$table.py" 1024 "$(nproc)" | table | tee "$out.new"
	else
		echo "$table: left out: python3-torch is not installed" >&2
		continue
	fi
	mv "$out.new" "$out"
done
