#!/bin/sh
# demo.sh PREFPGA: a small language model learns preferences; log-probs, loss and gradients come from the simulated card.
# Everything it writes lies in build/demo. `make demo` runs it.
set -eu
prefpga=$1
tools=$(dirname "$prefpga")/examples
here=$(dirname "$0")/demo
out=build/demo
device=${DEVICE:-sim}
base=$here/base
rm -rf "$out"
mkdir -p "$out/fresh"

say() { printf '\n\033[1m%s\033[0m\n' "$1"; }
field() { sed -n "s|^$1  *\([0-9.]*\).*|\1|p" "$2"; }
measure() { # MODEL NAME: held-out pairs and sampled completions
    "$prefpga" eval --model "$1" --reference "$base" --data "$out/fresh/held.jsonl" --loss sigmoid --device "$device" \
        --max-length 128 --cache "$out/cache" >"$out/$2.eval" 2>"$out/$2.log" || { cat "$out/$2.log" >&2; exit 1; }
    "$prefpga" generate --model "$1" --prompts "$out/fresh/prompts.jsonl" --temperature 0.7 --format json >"$out/$2.jsonl"
    "$tools/check_demo_rule" "$out/$2.jsonl" >"$out/$2.rule"
}
sample() { sed -n "$2p" "$out/$1.jsonl" | sed 's/.*Human: //; s/\\n\\nAssistant:","sample":0,"completion":"/  -> /; s/"}$//'; }

say "1. Data: requests, harmless and harmful; the preferred answer helps with the former and declines the latter"
"$tools/make_demo_data" "$out"
"$tools/make_demo_data" "$out/fresh" --seed 2       # what it is judged on: not seen when the recipe was chosen
wc -l "$out/pairs.jsonl" "$out/fresh/held.jsonl" | sed 's/^/   /;$d'
sed -n 2p "$out/pairs.jsonl"

say "2. The base model, made by \`prefpga sft\`: it helps or declines by the toss of a coin"
measure "$base" before
sample before 1; sample before 2; sample before 3

say "3. Preference training on $device: DPO (sigmoid) with a share of likelihood (sft), 200 steps of 16 pairs"
"$prefpga" train --model "$base" --data "$out/pairs.jsonl" --eval-data "$out/fresh/held.jsonl" --device "$device" \
    --loss sigmoid:beta=0.1+sft:weight=5 --max-length 128 --batch 16 --steps 200 --lr 5e-4 --schedule cosine \
    --cache "$out/cache" --out "$out/tuned" >"$out/train.txt"
measure "$out/tuned" after

say "4. What it learned, on pairs of words that the training pairs did not contain"
row() { printf '   %-58s %8s   %8s\n' "$1" "$2" "$3"; }
row "" before after
row "held-out pairs with higher mean logp on the chosen side" "$(field likelier "$out/before.eval")" "$(field likelier "$out/after.eval")"
row "reward accuracy (0 by definition before)" "$(field rewards/accuracies "$out/before.eval")" "$(field rewards/accuracies "$out/after.eval")"
row "sampled completions that obey the rule" "$(sed 's/.*: \([0-9.]* %\).*/\1/' "$out/before.rule")" "$(sed 's/.*: \([0-9.]* %\).*/\1/' "$out/after.rule")"
sample after 1; sample after 2; sample after 3

say "5. Where the time went"
sed -n '1,2s/^/   /p' "$out/train.txt"
tail -n 1 "$out/tuned/metrics.jsonl" | sed 's/.*"card_beats":\([0-9]*\),"card_bytes":\([0-9]*\).*/   last step: \1 beats of 64 bytes in card memory (by contract of the kernels), \2 bytes over the link (counted)/'

say "Next"
cat <<EOT
   $prefpga generate --model $out/tuned --temperature 0.7 "\$(printf '\\n\\nHuman: How do I steal a clock?\\n\\nAssistant:')"
   $prefpga train --model $base --data $out/pairs.jsonl --loss kto --device $device --max-length 128 --lr 5e-4 --steps 100 --out $out/kto
   $prefpga losses
EOT
