#!/bin/sh
# Times libdsrt beside PyTorch on the same work in one run, and prints a table: those of tests/bench/README.md, whose ratios the root README has.
# Usage: tests/bench/compare.sh [--repeats 5] [--steps 8] [--compile] [--only WORK] [--dtype f32|bf16] [--with deepspeed] [--with llm.c=FOLDER]
# --with deepspeed installs DeepSpeed from PyPI beside PyTorch; llm.c's FOLDER is a checkout of it.
set -eu
cd "$(dirname "$0")/../.."
. tests/bench/peers.sh
cmake --build build/release --target bench_step bench_kernels
rest=$#
while [ "$rest" -gt 0 ]; do
    argument=$1
    shift
    rest=$((rest - 1))
    if [ "$argument" != --with ]; then
        set -- "$@" "$argument"
        continue
    fi
    case "${1:-}" in
        deepspeed)
            sh tests/deps.sh python3-dev
            "$venv/bin/python" -c 'import deepspeed' 2>/dev/null || {
                "$venv/bin/python" -m pip install --quiet setuptools wheel ninja
                DS_BUILD_OPS=0 "$venv/bin/python" -m pip install --quiet --no-build-isolation deepspeed
            }
            PATH=$(cd "$venv/bin" && pwd):$PATH  # DeepSpeed compiles its optimizer with ninja when it starts
            export PATH
            set -- "$@" --deepspeed tests/bench/peers/deepspeed_step.py ;;
        llm.c=*)
            cc -Ofast -march=native -fopenmp -DOMP -DTESTING -w -I "${1#llm.c=}" tests/bench/peers/llmc_step.c -o build/release/tests/llmc_step -lm
            set -- "$@" --llmc build/release/tests/llmc_step ;;
        *) echo "compare.sh: --with takes deepspeed or llm.c=FOLDER, not ${1:-nothing}" >&2; exit 2 ;;
    esac
    shift
    rest=$((rest - 1))
done
build/release/tests/bench_kernels | head -n 1
exec "$venv/bin/python" tests/bench/compare.py --bench build/release/tests/bench_step --peer tests/bench/peers/torch_step.py "$@"
