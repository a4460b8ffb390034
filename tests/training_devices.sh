#!/bin/sh
# training_devices.sh PREFPGA FOLDER DEVICE...: 50 steps of preference training on each device give the weights of the first
# one, bit for bit, and so do several of which one fails and leaves its work to the first. xrt and opencl run under
# emulation; where XRT is missing the test is skipped (77).
set -eu
prefpga=$1 folder=$2
shift 2
rm -rf "$folder"
mkdir -p "$folder"
for a in red blue green wide small old; do
	for b in sky sea tree road; do
		echo "{\"prompt\": \"$a $b:\", \"chosen\": \" a $a $b, please\", \"rejected\": \" $b\"}"
	done
done > "$folder/pairs.jsonl"
shape="--dim 32 --layers 1 --heads 2 --kv-heads 1 --ffn 48"
# shellcheck disable=SC2086
"$prefpga" sft --data "$folder/pairs.jsonl" --device cpu $shape --steps 3 --batch 4 --max-length 64 --threads 1 \
	--cache "$folder/cache" --out "$folder/base" > /dev/null 2>&1
first=
for device in "$@"; do
	out=$folder/$(echo "$device" | tr -c 'a-z0-9\n' _)
	emulate=
	case $device in *xrt* | *opencl*) emulate="$prefpga emulate --timeout 200 --cards 2 --" ;; esac
	# a cache of its own: every device computes the reference itself
	# shellcheck disable=SC2086
	$emulate "$prefpga" train --model "$folder/base" --data "$folder/pairs.jsonl" --loss sigmoid:beta=0.1 --steps 50 \
		--batch 4 --lr 1e-3 --max-length 64 --threads 1 --on-fault reset --device "$device" --cache "$out-cache" --out "$out" \
		> "$out.log" 2>&1 || { code=$?; cat "$out.log"; exit $code; }
	first=${first:-$out}
	cmp "$first/model.safetensors" "$out/model.safetensors"
	echo "$device: 50 steps, every bit of the weights as on the first device"
done
rm -rf "$folder"
