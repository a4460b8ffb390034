#!/bin/sh
# precision.sh PREFPGA: what bf16 and mxint8 heads do to a DPO run: the demo's pairs, the demo's base model, the same seeds,
# one run a line of tests/experiments/results/precision.csv; rewards are judged in fp32 on held-out pairs, and the curves of
# the training loss compared step by step with fp32's. SEEDS, STEPS, DEVICE, OUT choose others.
set -eu
prefpga=$(realpath "$1")
here=$(realpath "$(dirname "$0")")
results=${OUT:-$here/results}
work=build/experiment/precision
base=$(realpath "$here/../../examples/demo/base")
steps=${STEPS:-150} device=${DEVICE:-cpu}
mkdir -p "$work" "$results"
out=$(realpath "$results")/precision.csv
machine=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1 | tr ',' ' ')
commit=$(git rev-parse --short HEAD 2>/dev/null || echo none)$(git diff --quiet HEAD 2>/dev/null || echo +)
stamp="$machine x$(nproc),$commit,$(date -u +%F)"
cd "$work"
tools=$(dirname "$prefpga")/examples
[ -s pairs.jsonl ] || "$tools/make_demo_data" . --seed 1
[ -s judge/held.jsonl ] || { mkdir -p judge && "$tools/make_demo_data" judge --seed 2; }
json() { sed -n "s|.*\"$1\":\([-0-9.e+]*\).*|\1|p"; }
share() { sed -n "s|.*\"$1\":{\"value\":\([0-9.e-]*\),\"low\":\([0-9.e-]*\),\"high\":\([0-9.e-]*\),\"count\":\([0-9]*\)}.*|\1,\2,\3,\4|p"; }

one() { # POLICY REFERENCE SEED
    rm -rf run
    $prefpga train --model "$base" --data pairs.jsonl --loss sigmoid:beta=0.1 --max-length 128 --batch 16 --steps "$steps" \
        --lr 5e-4 --schedule cosine --seed "$3" --device "$device" --cache cache --out run --save-every 0 \
        --head-precision "$1" --reference-precision "$2" >train.txt 2>train.log || { cat train.log >&2; exit 1; }
    json loss <run/metrics.jsonl >"curve-$1-$2-$3"
    # the largest and the mean distance of the loss from that of fp32 in the same step
    apart=$(paste "curve-fp32-fp32-$3" "curve-$1-$2-$3" | awk '{ d = $1 - $2; d = d < 0 ? -d : d; sum += d
        if (d > most) most = d } END { printf "%.3g,%.3g", most, sum / NR }')
    check=$(head -n 1 run/metrics.jsonl | json step0_check)
    held=$($prefpga eval --model run --reference "$base" --data judge/held.jsonl --max-length 128 --loss sigmoid:beta=0.1 \
        --device "$device" --format json)
    echo "demo,$1,$2,$3,$steps,$device,$check,$(tail -n 1 "curve-$1-$2-$3"),$apart,$(echo "$held" | json loss),$(echo "$held" |
        share rewards/accuracies),$stamp" >>"$out"
}
head="data,policy,reference,seed,steps,device,step0_check_nat,last_loss,loss_apart_max,loss_apart_mean,held_loss,reward_accuracy"
echo "$head,low,high,pairs,machine,commit,date" >"$out"
for seed in ${SEEDS:-1 2 3}; do
    for forms in "fp32 fp32" "bf16 bf16" "fp32 mxint8" "bf16 mxint8" "mxint8 mxint8"; do
        # shellcheck disable=SC2086
        one $forms "$seed"
    done
done
cat "$out"
