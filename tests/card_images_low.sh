#!/bin/sh
# card_images_low.sh PREFPGA IMAGES FOLDER: heads of lower precision, and the head's optimizer on the card, with what the
# images of a real card hold. No image has the kernels of a bf16 policy and of an mxint8 reference: the reference's
# log-probs are computed with one image, the training goes on with the other, and the weights are those of sim, which
# has all kernels, in every bit. Without XRT: skipped (77).
set -eu
prefpga=$1 images=$2 folder=$3
emulate="$prefpga emulate --timeout 200 --"
rm -rf "$folder"
mkdir -p "$folder/low"
cp "$images/prefpga-low.xclbin" "$folder/low"
for a in red blue green wide; do
	echo "{\"prompt\": \"$a:\", \"chosen\": \" a $a sky, please\", \"rejected\": \" sea\"}"
done > "$folder/pairs.jsonl"
shape="--device cpu --dim 32 --layers 1 --heads 2 --kv-heads 1 --ffn 48 --steps 1 --batch 2 --max-length 64 --threads 1"
# shellcheck disable=SC2086
for tied in 0 1; do
	"$prefpga" sft --data "$folder/pairs.jsonl" $shape --tied=$tied --cache "$folder/cache" --out "$folder/tied$tied" \
		> /dev/null 2>&1
done

# run DEVICE LOG WORDS...: skipped without XRT
run() {
	device=$1 log=$2
	shift 2
	first=
	[ "$device" = sim ] || first=$emulate
	code=0
	# shellcheck disable=SC2086
	$first "$prefpga" "$@" --device "$device" > "$log" 2>&1 || code=$?
	if [ $code = 77 ]; then cat "$log"; exit 77; fi
	return $code
}

# train NAME DEVICE BASE IMAGES CACHE WORDS...
train() {
	name=$1 device=$2 base=$3 image=$4 cache=$5
	shift 5
	run "$device" "$folder/$name.log" train --model "$folder/$base" --data "$folder/pairs.jsonl" --loss sigmoid:beta=0.1 \
		--steps 6 --batch 2 --lr 1e-3 --max-length 64 --threads 1 --image "$image" --cache "$folder/$cache" \
		--out "$folder/$name" "$@"
}

must() {
	"$@" || { echo "failed: $*"; cat "$folder"/*.log; exit 1; }
}

says() {
	grep -q "$2" "$folder/$1.log" || { echo "$1 does not say: $2"; cat "$folder/$1.log"; exit 1; }
}

silent() {
	if grep "$2" "$folder/$1.log"; then echo "$1 says: $2"; exit 1; fi
}

same() {
	cmp "$folder/$1/model.safetensors" "$folder/$2/model.safetensors"
}

# one image for the reference, then the other for the policy; the next run finds the cache complete
mixed="--head-precision bf16 --reference-precision mxint8"
# shellcheck disable=SC2086
{
	must train sim sim tied1 "$images" sim-cache $mixed
	must train xrt xrt tied1 "$images" xrt-cache $mixed
	same sim xrt
	says xrt "log-probs of the reference first, in mxint8"
	must train again xrt tied1 "$folder/low" xrt-cache $mixed
	same sim again
	silent again "log-probs of the reference first"
}

# a card that fails while the reference is computed is renewed, as in the middle of a training
# shellcheck disable=SC2086
must train struck fault:firewall@3/xrt tied1 "$images" struck-cache $mixed --on-fault reset
same sim struck
says struck "works again"

# one of two cards is gone for good: the other one does its work, with the policy's image too
emulate="$prefpga emulate --cards 2 --timeout 200 --"
# shellcheck disable=SC2086
must train gone fault:gone@3/xrt:0,xrt:1 tied1 "$images" gone-cache $mixed --on-fault retry
same sim gone
says gone "takes over its work"
emulate="$prefpga emulate --timeout 200 --"

# an image that cannot compute them, and no other, or a backend that does not load two: the run is refused with the
# command that helps, which does
for case in "alone xrt $folder/low" "opencl opencl $images"; do
	# shellcheck disable=SC2086
	set -- $case
	# shellcheck disable=SC2086
	if train $1 $2 tied1 "$3" $1-cache $mixed; then echo "$1: no reference, and no refusal"; exit 1; fi
	says $1 "kernel linear_logprob_mxint8"
	command=$(sed -n 's/.*run first: prefpga //p' "$folder/$1.log" |
		sed "s|--image IMAGE|--image $images/prefpga-mxint8.xclbin|; s|--to [^ ]*|--to $folder/$1.jsonl|")
	eval "$emulate $prefpga $command" > "$folder/export.log" 2>&1 || { cat "$folder/export.log"; exit 1; }
	[ "$(wc -l < "$folder/$1.jsonl")" = 4 ]
	# shellcheck disable=SC2086
	must train $1 $2 tied1 "$3" $1-cache $mixed
	same sim $1
done

# evaluation: as on sim
for device in sim xrt; do
	# shellcheck disable=SC2086
	must run $device "$folder/eval-$device.log" eval --model "$folder/sim" --reference "$folder/tied1" --data \
		"$folder/pairs.jsonl" --loss sigmoid:beta=0.1 --max-length 64 --threads 1 --image "$images" --cache \
		"$folder/eval-$device" $mixed
	grep '^\(loss \|rewards\|logps\)' "$folder/eval-$device.log" > "$folder/eval-$device.txt"
done
says eval-xrt "log-probs of the reference first"
[ "$(wc -l < "$folder/eval-sim.txt")" -ge 6 ]
cmp "$folder/eval-sim.txt" "$folder/eval-xrt.txt"

# what needs both at every step is refused
# shellcheck disable=SC2086
if train kto xrt tied1 "$images" kto-cache $mixed --loss kto; then echo "kto: no refusal"; exit 1; fi
says kto "at every step"

# both in mxint8: the way back is bf16's, on one image
must train sim-mx sim tied1 "$images" mx-cache --head-precision mxint8
must train xrt-mx xrt tied1 "$images" xrt-mx-cache --head-precision mxint8
same sim-mx xrt-mx
silent xrt-mx "log-probs of the reference first"

# the head's optimizer on the card: the bits of sim, whose are those of the host's optimizer
must train sim-host sim tied0 "$images" host-cache --head-optimizer host
for device in sim xrt; do
	must train $device-kept $device tied0 "$images" kept-cache --head-optimizer device
	says $device-kept "optimizer stay on the device"
	same sim-host $device-kept
done
rm -rf "$folder"
echo "one image after the other, and the optimizer on the card: in every bit as sim"
