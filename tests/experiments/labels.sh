#!/bin/sh
# labels.sh PREFPGA: what flipped labels do to seven losses. The demo's pairs (examples/make_demo_data: help with harmless
# requests, decline harmful ones) with 0, 10, 20 and 30 % of the training labels flipped, each loss at three beta, three seeds;
# judged on pairs with true labels. One CSV row a run in tests/experiments/results/labels.csv; runs that are there already
# are left out, so it can be stopped and started again. Then labels.py makes the table and the plot.
#   FLIPS, LOSSES, SEEDS, STEPS, DEVICE, OUT   choose a part, another length, device or folder of results
set -eu
prefpga=$(realpath "$1")
here=$(realpath "$(dirname "$0")")
results=${OUT:-$here/results}
work=build/experiment/labels
base=$(realpath "$here/../../examples/demo/base")
steps=${STEPS:-150} device=${DEVICE:-cpu}
mkdir -p "$work" "$results"
results=$(realpath "$results")
out=$results/labels.csv
machine=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1 | tr ',' ' ')
commit=$(git rev-parse --short HEAD 2>/dev/null || echo none)$(git diff --quiet HEAD 2>/dev/null || echo +)
stamp="$machine x$(nproc),$commit,$(date -u +%F)"
head="flips,loss,beta,seed,steps,device,train_loss,train_accuracy,first_margin,first_chosen,margin,accuracy,low,high,pairs,likelier"
head="$head,likelier_low,likelier_high,kl_reference,chosen_drift,label_noise,seconds,machine,commit,date"
[ -s "$out" ] || echo "$head" >"$out"
[ "$(head -n 1 "$out")" = "$head" ] || { echo "$out has other columns; move it away" >&2; exit 1; }
cd "$work"
tools=$(dirname "$prefpga")/examples
[ -s pairs.jsonl ] || "$tools/make_demo_data" . --seed 1
[ -s judge/held.jsonl ] || { mkdir -p judge && "$tools/make_demo_data" judge --seed 2; }

# What the article's library settings are, and a factor of ten to both sides where that is finite in effect
betas() {
    case $1 in
    discopop) echo "0.01 0.05 0.25" ;;
    ipo) echo "0.05 0.2 1" ;;
    *) echo "0.02 0.1 0.5" ;;
    esac
}
spec() { # LOSS BETA FLIPS: losses that know of noise are told how much there is
    case $1 in
    cdpo | robust) echo "$1:beta=$2,label_smoothing=$(awk -v f="$3" 'BEGIN { print (f > 0 ? f / 100 : 0.1) }')" ;;
    *) echo "$1:beta=$2" ;;
    esac
}
flip() { # PERCENT SEED: chosen and rejected exchanged in so many of the pairs, chosen by a hash of line and seed
    [ -s "train-$1-$2.jsonl" ] && return
    awk -v p="$1" -v seed="$2" 'BEGIN { srand(7919 * seed + 1) }
        { if (rand() * 100 < p) { gsub(/"chosen"/, "\001"); gsub(/"rejected"/, "\"chosen\""); gsub("\001", "\"rejected\"") } print }' \
        pairs.jsonl >"train-$1-$2.partial"
    mv "train-$1-$2.partial" "train-$1-$2.jsonl"
}
json() { sed -n "s|.*\"$1\":\([-0-9.e+]*\).*|\1|p"; }
share() { sed -n "s|.*\"$1\":{\"value\":\([0-9.e-]*\),\"low\":\([0-9.e-]*\),\"high\":\([0-9.e-]*\),\"count\":\([0-9]*\)}.*|\1,\2,\3,\4|p"; }

one() { # FLIPS LOSS BETA SEED
    flip "$1" "$4"
    began=$(date +%s.%N)
    rm -rf run
    $prefpga train --model "$base" --data "train-$1-$4.jsonl" --loss "$(spec "$2" "$3" "$1")" --max-length 128 --batch 16 \
        --steps "$steps" --lr 5e-4 --schedule cosine --seed "$4" --device "$device" --cache cache --out run --save-every 0 \
        >train.txt 2>train.log || { cat train.log >&2; exit 1; }
    line=$($prefpga eval --model run --reference "$base" --data judge/held.jsonl --max-length 128 --loss sigmoid:beta=1 \
        --device "$device" --cache cache --format json)
    tenth=$(sed -n "$((steps / 10 + 1))p" run/metrics.jsonl)
    last=$(tail -n 1 run/metrics.jsonl)
    likelier=$(echo "$line" | share likelier)
    seconds=$(echo "$began $(date +%s.%N)" | awk '{ printf "%.1f", $2 - $1 }')
    accuracy=$(echo "$line" | share rewards/accuracies)
    echo "$1,$2,$3,$4,$steps,$device,$(echo "$last" | json loss),$(echo "$last" | json rewards/accuracies),$(echo "$tenth" |
        json rewards/margins),$(echo "$tenth" | json chosen_drift),$(echo "$line" | json rewards/margins),$accuracy,$(echo "$likelier" |
        cut -d, -f1-3),$(echo "$line" | json kl_reference),$(echo "$line" | json chosen_drift),$(echo "$line" |
        json label_noise),$seconds,$stamp" >>"$out"
}

for seed in ${SEEDS:-1 2 3}; do
    for flips in ${FLIPS:-0 10 20 30}; do
        for loss in ${LOSSES:-sigmoid cdpo robust ipo hinge kto discopop}; do
            for beta in $(betas "$loss"); do
                grep -q "^$flips,$loss,$beta,$seed,$steps,$device," "$out" || one "$flips" "$loss" "$beta" "$seed"
            done
        done
    done
done
python3 "$here/labels.py" "$out" "$results"
