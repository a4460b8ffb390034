#!/bin/sh
# installed.sh BUILD SOURCE WORK CC: installs into WORK, then builds and runs the examples against what was installed, once
# through pkg-config and once through CMake's package.
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
for example in score_logits preference_loss; do
    # shellcheck disable=SC2046
    "$cc" -std=c11 -Wall -Werror "$source/examples/$example.c" $(pkg-config --cflags --libs prefpga) -lm -o "$example"
    ./$example | tee "$example.txt"
done
grep -q '^token 1: logp -1.609438, gradient 0.200000 0.200000 0.200000 0.200000 -0.800000' score_logits.txt
./preference_loss dpo sim | grep -q '^loss 0.7975170'
! ./preference_loss no_such_loss 2>error.txt
grep -q no_such_loss error.txt
mkdir user
cat >user/CMakeLists.txt <<EOT
cmake_minimum_required(VERSION 3.25)
project(user C)
find_package(prefpga 0.1 REQUIRED)
add_executable(user $source/examples/score_logits.c)
target_link_libraries(user PRIVATE prefpga::prefpga)
EOT
cmake -S user -B user/build -DCMAKE_PREFIX_PATH="$work/prefix" -DCMAKE_C_COMPILER="$cc" >/dev/null
cmake --build user/build >/dev/null
user/build/user cpu | grep -q '^token 1: logp -1.609438'
"$work/prefix/bin/prefpga" version
