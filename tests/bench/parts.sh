#!/bin/sh
# The rows of the table that are not whole steps, each beside its peer or its ceiling: update, dispatch, start, checkpoint, tokenizer, attention, size.
# Usage: tests/bench/parts.sh [--repeats 5] [--only update|dispatch|start|checkpoint|tokenizer|attention|size]
set -eu
cd "$(dirname "$0")/../.."
. tests/bench/peers.sh
cmake --build build/release --target bench_step bench_parts bench_kernels
exec "$venv/bin/python" tests/bench/parts.py --step build/release/tests/bench_step --parts build/release/tests/bench_parts --kernels build/release/tests/bench_kernels \
    --library build/release/libdsrt.so.0 "$@"
