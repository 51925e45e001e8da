#!/bin/sh
# Times libdsrt beside PyTorch on the same work in one run, and prints the table of README.md.
# Usage: tests/bench/compare.sh [--repeats 5] [--steps 8] [--compile] [--only MODEL]
# Builds the release preset; makes a Python environment with torch and transformers in build/peers (a large download, once).
set -eu
root=$(CDPATH= cd -- "$(dirname -- "$0")/../.." && pwd)
sh "$root/tests/run.sh" --deps
cmake --preset release -S "$root" >/dev/null
cmake --build "$root/build/release" --target bench_step bench_kernels
venv=${DSRT_PEERS:-$root/build/peers}
if [ ! -x "$venv/bin/python" ]; then python3 -m venv "$venv"; fi
"$venv/bin/python" -c 'import torch, transformers' 2>/dev/null || "$venv/bin/python" -m pip install --quiet torch transformers
"$root/build/release/tests/bench_kernels" | head -n 1
exec "$venv/bin/python" "$root/tests/bench/compare.py" --bench "$root/build/release/tests/bench_step" --peer "$root/tests/bench/peers/torch_step.py" "$@"
