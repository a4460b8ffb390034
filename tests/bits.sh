#!/bin/sh
# bits.sh quick|full SOURCE-FOLDER WORK-FOLDER KERNEL...: the same bits from every compiler, level, vector width, step
# and mode. Compiles hls/ and bits.c in many ways and compares the hashes. A kernel is kernel:source:lane type, an entry
# of PREFPGA_HLS_KERNELS (hls/CMakeLists.txt). 77 (skip) without both gcc and clang.
[ $# -gt 3 ] || { echo "usage: bits.sh quick|full SOURCE-FOLDER WORK-FOLDER KERNEL..."; exit 2; }
mode=$1 source=$2 work=$3/bits-$1
shift 3
kernels=$*
command -v gcc > /dev/null && command -v clang > /dev/null || { echo "needs gcc and clang"; exit 77; }
rm -rf "$work"
mkdir -p "$work" && cd "$work" || exit 1

# build COMPILER STEP OPTIONS...: compiles, links, runs in both modes, adds two lines to `hashes`
build() {
	compiler=$1 step=$2
	shift 2
	objects=
	for kernel in $kernels; do
		define= object=${kernel%%:*}.o file=${kernel#*:}
		[ "${kernel##*:}" = bf16 ] && define=-DPF_BF16
		$compiler -std=c11 -ffp-contract=off -w "$@" -DPF_STEP="$step" $define -I"$source/include" \
			-c "$source/hls/${file%:*}.c" -o "$object" || exit 1
		objects="$objects $object"
	done
	$compiler -std=c11 -ffp-contract=off -w "$@" -I"$source/include" "$source/tests/bits.c" $objects -o bits || exit 1
	for how in keep flush; do
		echo "$(./bits $how) $compiler step $step $* $how" >> hashes
	done
}

quick() {
	build clang 1 -O0
	build gcc 64 -O3 -march=native -mprefer-vector-width=512
	build clang 3 -O2 -msse2 -DPF_ARRAY_ROWS=2
	build clang 64 -O3 -march=native
}

full() {
	for compiler in gcc clang; do
		for step in 1 3 64; do
			build $compiler $step -O0
			build $compiler $step -O1 -DPF_ARRAY_ROWS=2
			for level in -O1 -O2 -O3; do
				for machine in -msse2 -march=x86-64-v2 -march=x86-64-v3 -march=native \
				               "-march=native -mprefer-vector-width=512"; do
					build $compiler $step $level $machine
				done
			done
		done
	done
}

case $mode in quick) quick ;; full) full ;; *) echo "quick or full"; exit 2 ;; esac
distinct=$(cut -d' ' -f1 hashes | sort -u | wc -l)
echo "$(wc -l < hashes) builds and modes, $distinct distinct hashes"
[ "$distinct" = 1 ] || { cat hashes; exit 1; }
rm -rf "$work"
