#!/bin/sh
# run.sh PREFPGA: makes the result tables of tests/experiments/results again. DATA is a folder with train.jsonl.gz and
# validation.jsonl.gz of chosen/rejected conversations (the committed tables used the harmless-base part of Anthropic's
# hh-rlhf); without it the demo's generated pairs stand in, and the tables say so.
set -eu
prefpga=$(realpath "$1")
results=$(realpath "$(dirname "$0")")/results
work=build/experiment
mkdir -p "$work" "$results"
machine=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1 | tr ',' ' ')
commit=$(git rev-parse --short HEAD 2>/dev/null || echo none)$(git diff --quiet HEAD 2>/dev/null || echo +)
stamp="$machine x$(nproc),$commit,$(date -u +%F)"
if [ -n "${DATA:-}" ]; then
    name=harmless-base
    train=$(realpath "$DATA/train.jsonl.gz") valid=$(realpath "$DATA/validation.jsonl.gz")
else
    name=demo
    "$(dirname "$prefpga")/examples/make_demo_data" "$work"
    train=$PWD/$work/pairs.jsonl valid=$PWD/$work/held.jsonl
fi
cd "$work"
common="--max-length 512 --truncation keep_end --bad-rows drop --batch 8"
json() { sed -n "s|.*\"$1\":\([-0-9.e+]*\).*|\1|p"; }
share() { sed -n "s|.*\"$1\":{\"value\":\([0-9.e-]*\),\"low\":\([0-9.e-]*\),\"high\":\([0-9.e-]*\),\"count\":\([0-9]*\)}.*|\1,\2,\3,\4|p"; }

# ---- real pairs: likelihood first, then DPO, validation accuracy with a 95 % interval ----
shape="--dim 128 --layers 4 --heads 4 --kv-heads 2 --ffn 352"
rm -rf base tuned
$prefpga sft --data "$train" $common $shape --device cpu --steps "${SFT_STEPS:-400}" --lr 2e-3 --schedule cosine --out base >sft.txt
out=$results/preferences.csv
echo "data,stage,steps,loss,reward_accuracy,low,high,pairs,likelier,likelier_low,likelier_high,machine,commit,date" >"$out"
measure() { # STAGE STEPS MODEL
    line=$($prefpga eval --model "$3" --reference base --data "$valid" $common --loss sigmoid:beta=0.1 --device sim --format json)
    # before training the policy is the reference: its reward accuracy is 0 by definition, so it is left out
    accuracy=$(echo "$line" | share rewards/accuracies)
    [ "$1" != sft ] || accuracy=,,,$(echo "$accuracy" | cut -d, -f4)
    echo "$name,$1,$2,$(echo "$line" | json loss),$accuracy,$(echo "$line" | share likelier | cut -d, -f1-3),$stamp" >>"$out"
}
measure sft "${SFT_STEPS:-400}" base
$prefpga train --model base --data "$train" $common --loss sigmoid:beta=0.1 --device sim --steps "${DPO_STEPS:-300}" --lr 2e-4 \
    --schedule cosine --out tuned >dpo.txt
measure dpo "${DPO_STEPS:-300}" tuned

# ---- the same seed on cpu, sim and through XRT's library: 100 steps ----
curve() { # NAME DEVICE [WRAPPER...]
    where=$1 device=$2
    shift 2
    rm -rf "run-$where"
    "$@" $prefpga train --model base --data "$train" $common --loss sigmoid:beta=0.1 --device "$device" --steps 100 --lr 2e-4 \
        --seed 1 --cache "cache-$where" --out "run-$where" >"$where.txt" 2>"$where.log"
    json loss <"run-$where/metrics.jsonl" >"$where.curve"
}
curve cpu cpu
curve sim sim
if "$prefpga" emulate -- true >/dev/null 2>&1; then
    curve xrt xrt "$prefpga" emulate --
    cmp run-sim/model.safetensors run-xrt/model.safetensors && same=equal || same=different
else
    sed 's/.*//' sim.curve >xrt.curve
    same="not run"
fi
out=$results/devices.csv
echo "data,step,loss_cpu,loss_sim,loss_xrt,weights_sim_and_xrt,machine,commit,date" >"$out"
paste -d, cpu.curve sim.curve xrt.curve |
    awk -v n="$name" -v same="$same" -v stamp="$stamp" '{ print n "," NR "," $0 "," same "," stamp }' >>"$out"
awk -F, 'NR > 1 { d = $3 - $4; d = d < 0 ? -d : d; m = $4 > 1 ? $4 : 1; if (d / m > worst) worst = d / m }
         END { printf "largest |loss cpu - loss sim| / max(1, loss) over %d steps: %.2g\n", NR - 1, worst }' "$out"
echo "weights after 100 steps, sim and xrt: $same"
cat "$results/preferences.csv"
