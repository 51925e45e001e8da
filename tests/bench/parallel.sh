#!/bin/sh
# What ranks cost: sums over two ranks beside memcpy and Gloo's own (bench_exchange), and whole steps of GPT-2 124M, 8 rows of 64, by one rank of two threads
# beside two ranks of one thread as data, tensor and pipeline ranks, and as two processes. Steps take turns, `--repeats` times.
# Usage: tests/bench/parallel.sh [--repeats 2] [--steps 4] [--rows 8] [--only exchange|steps]
set -eu
cd "$(dirname "$0")/../.."
repeats=2 steps=4 rows=8 only=""
while [ $# -gt 0 ]; do
    case "$1" in
    --repeats) repeats=$2 ;;
    --steps) steps=$2 ;;
    --rows) rows=$2 ;;
    --only) only=$2 ;;
    *) echo "unknown option $1" >&2; exit 2 ;;
    esac
    shift 2
done
cmake --build build/release --target bench_exchange bench_step dsrt_gloo >/dev/null
export DSRT_BACKEND_PATH="$PWD/build/release"
step=build/release/tests/bench_step
[ "$only" = steps ] || build/release/tests/bench_exchange
[ "$only" = exchange ] && exit 0

median() { sed -n 's/.*"median_s": \([0-9.]*\).*/\1/p'; }
one() { "$step" gpt2 "$rows" 64 f32 "$steps" "$@" | median; }
processes() {
    port=$((20000 + $$ % 20000))
    RANK=1 WORLD_SIZE=2 LOCAL_RANK=1 LOCAL_WORLD_SIZE=2 MASTER_PORT=$port "$step" gpt2 "$rows" 64 f32 "$steps" 1 "$1" >/dev/null &
    RANK=0 WORLD_SIZE=2 LOCAL_RANK=0 LOCAL_WORLD_SIZE=2 MASTER_PORT=$port "$step" gpt2 "$rows" 64 f32 "$steps" 1 "$1" | median
    wait
}
i=0
while [ $i -lt "$repeats" ]; do
    echo "1 rank x 2 threads: $(one 2) s; data 2: $(one 1 '"parallel": {"data": 2}') s; tensor 2: $(one 1 '"parallel": {"tensor": 2}') s; two processes, data 2: $(processes '"parallel": {"data": 2}') s"
    echo "in 4 micro-batches: 1 rank x 2 threads: $(one 2 '"gradient_accumulation_steps": 4') s; pipeline 2 (bubble 1/5): $(one 1 '"gradient_accumulation_steps": 4, "parallel": {"pipeline": 2}') s"
    i=$((i + 1))
done
