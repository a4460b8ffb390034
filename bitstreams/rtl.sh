#!/bin/sh
# rtl.sh KERNEL:FILE:LANES SOURCE BUILD: a kernel through PandA-Bambu to Verilog, and that through Verilator against the
# bench tb_<kernel>.c of the conformance suite, bit for bit. 77 where a tool is missing.
#
# Bambu takes the C that Vitis takes but for some pragmas, which are rewritten in a copy: offset=direct for slave, no
# s_axilite, no PIPELINE. It does not pipeline, so cycles say nothing about Vitis; the bits do.
set -eu
kernel=${1%%:*} rest=${1#*:} source=$2 build=$3
file=${rest%%:*} lanes=${rest#*:}
for tool in bambu verilator; do
	command -v $tool > /dev/null || { echo "skipped: rtl_$kernel needs $tool, which is not in PATH"; exit 77; }
done
work=$build/rtl-$kernel
rm -rf "$work"
mkdir -p "$work/hls"
for text in "$source"/hls/*.[ch]; do
	sed -e '/#pragma HLS INTERFACE mode=s_axilite/d' -e '/#pragma HLS PIPELINE/d' \
	    -e 's/offset=slave/offset=direct/' "$text" > "$work/hls/${text##*/}"
done
flags="-I$source/include -DPF_STEP=1"
[ "$lanes" != bf16 ] || flags="$flags -DPF_BF16"
cd "$work"
# its exit code is not to be trusted: the log of the test bench is
bambu "hls/$file.c" --top-fname="pf_k_$kernel" --compiler=I386_CLANG16 --generate-interface=INFER \
	--device-name=xcu55c-2Lfsvh2892-VVD --clock-period=3.33 -O2 -v2 $flags --max-ulp=0 \
	--generate-tb="$build/tb_$kernel.c" --tb-extra-gcc-options="$flags" --simulate --simulator=VERILATOR || true
log=HLS_output/simulation/testbench.log
[ -f "$log" ] || { echo "rtl_$kernel: no simulation was run"; exit 1; }
if grep -q ERROR "$log"; then
	grep ERROR "$log" | head -n 5
	exit 1
fi
echo "rtl_$kernel: every bit as in C"
