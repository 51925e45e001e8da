#!/bin/sh
# torchrun.sh CONFIG.json [options of the program]: one process for each of PROCESSES on this host. On several hosts, start it on each with NODES, NODE (0, 1 ...),
# MASTER_ADDR (the first host) and DSRT_SECRET_FILE set. torchrun comes with PyTorch; only its launcher is used.
set -eu
program=${PROGRAM:-build/release/examples/train}
exec torchrun --no-python --nnodes "${NODES:-1}" --node-rank "${NODE:-0}" --nproc-per-node "${PROCESSES:-2}" \
    --master-addr "${MASTER_ADDR:-127.0.0.1}" --master-port "${MASTER_PORT:-29500}" "$program" "$@"
