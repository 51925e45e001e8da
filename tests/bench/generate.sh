#!/bin/sh
# Tokens a second of generation, libdsrt beside transformers. Usage: tests/bench/generate.sh [--repeats 5] [--new 128] [--threads 2]
set -eu
cd "$(dirname "$0")/../.."
. tests/bench/peers.sh
cmake --build build/release --target dsrt
DSRT_LIBRARY=$PWD/build/release/libdsrt.so exec "$venv/bin/python" tests/bench/generate.py "$@"
