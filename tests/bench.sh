#!/bin/sh
# bench.sh BENCH: a test bench passes, and fails when it expects a wrong bit
"$1" || exit 1
if "$1" spoil > /dev/null; then
	echo "a wrong bit was not noticed"
	exit 1
fi
