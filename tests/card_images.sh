#!/bin/sh
# card_images.sh PREFPGA IMAGES FOLDER: training on an emulated card that is loaded with what the images of a real one hold.
# No image has all kernels; the one that a run needs is found by itself, and the weights are those of sim in every bit.
# Without the fused image --head auto takes the other form and says so. Without XRT: skipped (77).
set -eu
prefpga=$1 images=$2 folder=$3
rm -rf "$folder"
mkdir -p "$folder/logits"
for a in red blue green wide; do
	echo "{\"prompt\": \"$a:\", \"chosen\": \" a $a sky, please\", \"rejected\": \" sea\"}"
done > "$folder/pairs.jsonl"
cp "$images/prefpga-logits.xclbin" "$folder/logits"
"$prefpga" sft --data "$folder/pairs.jsonl" --device cpu --dim 32 --layers 1 --heads 2 --kv-heads 1 --ffn 48 --steps 1 \
	--batch 2 --max-length 64 --threads 1 --cache "$folder/cache" --out "$folder/base" > /dev/null 2>&1

# train NAME DEVICE HEAD IMAGES
train() {
	emulate=
	[ "$2" = sim ] || emulate="$prefpga emulate --timeout 200 --"
	# shellcheck disable=SC2086
	$emulate "$prefpga" train --model "$folder/base" --data "$folder/pairs.jsonl" --loss sigmoid:beta=0.1 \
		--steps 4 --batch 2 --lr 1e-3 --max-length 64 --threads 1 --device "$2" --head "$3" --image "$4" \
		--cache "$folder/$1-cache" --out "$folder/$1" > "$folder/$1.log" 2>&1 || { code=$?; cat "$folder/$1.log"; exit $code; }
}

same() {
	cmp "$folder/$1/model.safetensors" "$folder/$2/model.safetensors"
}

train sim-fused sim fused "$images"
train sim-logits sim logits "$images"
for head in fused logits; do
	train xrt-$head xrt $head "$images"
	same sim-$head xrt-$head
done
train auto xrt auto "$images"
same sim-fused auto
if grep -q "no fused head" "$folder/auto.log"; then echo "--head auto missed the fused image"; exit 1; fi
train only-logits xrt auto "$folder/logits"
same sim-logits only-logits
grep -q "no fused head" "$folder/only-logits.log"
if cmp -s "$folder/sim-fused/model.safetensors" "$folder/sim-logits/model.safetensors"; then
	echo "both forms of the head give the same weights, so this test tells nothing apart"
	exit 1
fi
rm -rf "$folder"
echo "every image served the run that needs it, in every bit as sim"
