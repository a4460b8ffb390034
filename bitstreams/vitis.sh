#!/bin/sh
# vitis.sh EMIT PREFPGA SOURCE BUILD CARD STEP release=R cus=LIST KERNELS run|dry [IMAGE]: from sources to one step for one
# card. KERNELS: "kernel:source:lanes,..." as hls/CMakeLists.txt has it. IMAGE: of vitis.def, else the first one. `dry`
# prints the files and commands and runs nothing.
set -eu
emit=$1 prefpga=$2 source=$3 build=$4 card=$5 step=$6 release=${7#release=} cus=${8#cus=} kernels=$9
shift 9
mode=$1 image=${2:-}

if [ -z "$release" ] && command -v v++ > /dev/null; then
	release=$(v++ --version | sed -n 's/.*v\(20[0-9][0-9]\.[0-9]\).*/\1/p' | head -n 1)
fi
if [ "$mode" = dry ]; then
	release=${release:-2023.2}
elif ! command -v v++ > /dev/null; then
	echo "$step for $card needs AMD's Vitis, and there is no v++ in PATH: source its settings64.sh, or see what would be" \
	     "run with target dry_${step}_$card${image:+_$image}" >&2
	exit 1
fi
[ -n "$release" ] || { echo "v++ does not say its release: set PREFPGA_VITIS" >&2; exit 1; }

work=$build/$card-$step${image:+-$image}
mkdir -p "$work"
cd "$work"
set -- --card "$card" --vitis "$release" --target "$step" --source "$source" --benches "$build" --program "$prefpga"
[ -z "$image" ] || set -- "$@" --image "$image"
[ -z "$cus" ] || set -- "$@" --cus "$cus"
case $release in 2022.*) kind=tcl ;; *) kind=cfg ;; esac
for kernel in $(echo "$kernels" | tr ',' '\n' | cut -d: -f1); do
	"$emit" hls --kernel "$kernel" "$@" --out "$kernel.$kind"
done
"$emit" link "$@" --out link.cfg
"$emit" commands "$@" --out run.sh
if [ "$mode" = dry ]; then
	for file in *."$kind" link.cfg run.sh; do
		echo "==> $work/$file <=="
		cat "$file"
	done
	echo "==> nothing was run; these files are in $work, and ${step}_$card${image:+_$image} writes them anew and runs run.sh"
else
	sed -n "s/^# note: /$step for $card${image:+, image $image,} is /p" run.sh >&2
	for kernel in $(echo "$kernels" | tr ',' '\n' | cut -d: -f1); do        # what cosim's cycles are of (--reports)
		[ "$step" != cosim ] || cp "$build/tb_$kernel.runs" "pf_k_${kernel}_runs.txt"
	done
	find . -name 'pf_k_*.xo' -exec rm {} +         # of other kernels than now: run.sh links what it finds
	sh run.sh
fi
