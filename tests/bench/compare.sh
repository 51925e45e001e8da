#!/bin/sh
# Times libdsrt beside PyTorch on the same work in one run, and prints the table of README.md.
# Usage: tests/bench/compare.sh [--repeats 5] [--steps 8] [--compile] [--only MODEL]
set -eu
cd "$(dirname "$0")/../.."
. tests/bench/peers.sh
cmake --build build/release --target bench_step bench_kernels
build/release/tests/bench_kernels | head -n 1
exec "$venv/bin/python" tests/bench/compare.py --bench build/release/tests/bench_step --peer tests/bench/peers/torch_step.py "$@"
