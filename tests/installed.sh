#!/bin/sh
# installed.sh BUILD SOURCE WORK CC: installs into WORK, then builds and runs the examples against what was installed, once
# through pkg-config and once through CMake's package; the example for PyTorch loads it, where PyTorch is installed.
set -eu
build=$1 source=$2 work=$3/installed cc=$4
rm -rf "$work"
mkdir -p "$work"
cmake --install "$build" --prefix "$work/prefix" >/dev/null
lib=$(dirname "$(find "$work/prefix" -name prefpga.pc)")/..
PKG_CONFIG_PATH=$lib/pkgconfig
LD_LIBRARY_PATH=$lib
export PKG_CONFIG_PATH LD_LIBRARY_PATH
cd "$work"
for example in score_logits preference_loss dpo_step; do
    # shellcheck disable=SC2046
    "$cc" -std=c11 -Wall -Werror "$source/examples/$example.c" $(pkg-config --cflags --libs prefpga) -lm -o "$example"
    ./$example | tee "$example.txt"
done
grep -q '^token 1: logp -1.609438, gradient 0.200000 0.200000 0.200000 0.200000 -0.800000' score_logits.txt
./preference_loss dpo sim >dpo.txt
grep -q '^loss 0.7975170' dpo.txt
grep -q '^step 0: loss 0.693147' dpo_step.txt
for device in cpu sim; do
    ./dpo_step $device 10 | awk '{ loss = $4 } END { exit !(NR == 10 && loss < 0.1) }'
done
! ./dpo_step no_such_device 2>error.txt
grep -q no_such_device error.txt
! ./preference_loss no_such_loss 2>error.txt
grep -q no_such_loss error.txt
mkdir user
cat >user/CMakeLists.txt <<EOT
cmake_minimum_required(VERSION 3.25)
project(user C)
find_package(prefpga 0.1 REQUIRED)
foreach(example score_logits dpo_step)
  add_executable(\${example} $source/examples/\${example}.c)
  target_link_libraries(\${example} PRIVATE prefpga::prefpga)
endforeach()
EOT
cmake -S user -B user/build -DCMAKE_PREFIX_PATH="$work/prefix" -DCMAKE_C_COMPILER="$cc" >/dev/null
cmake --build user/build >/dev/null
user/build/score_logits cpu | grep -q '^token 1: logp -1.609438'
user/build/dpo_step cpu 1 >dpo.txt
grep -q '^step 0: loss 0.693147' dpo.txt
if [ -x /usr/bin/python3 ] && /usr/bin/python3 -c 'import torch' 2>/dev/null; then
    mkdir data
    "$build/examples/make_demo_data" data --pairs 40
    /usr/bin/python3 "$source/examples/torch_head.py" data/pairs.jsonl data/held.jsonl --steps 3 --batch 4 \
        --library "$lib/libprefpga.so" >torch_head.txt
    grep -q '^step 0: loss 0.693147' torch_head.txt
    /usr/bin/python3 "$source/examples/torch_head.py" data/pairs.jsonl data/held.jsonl --steps 3 --batch 4 \
        --hidden --precision bf16 --library "$lib/libprefpga.so" >torch_head.txt
    grep -q '^step 0: loss 0.693147' torch_head.txt
else
    echo "left out: examples/torch_head.py (python3-torch is not installed)"
fi
"$work/prefix/bin/prefpga" version
