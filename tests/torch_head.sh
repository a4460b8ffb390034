#!/bin/sh
# torch_head.sh PYTHON SOURCE LIBRARY MAKE_DEMO_DATA WORK: data for torch_head.py, and the test itself.
set -eu
mkdir -p "$5/torch_head"
"$4" "$5/torch_head" --pairs 40
exec env PYTHONDONTWRITEBYTECODE=1 "$1" "$2/tests/torch_head.py" "$2" "$3" "$5/torch_head"
