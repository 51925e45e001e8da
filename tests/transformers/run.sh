#!/bin/sh
# run.sh LIBRARY: libdsrt beside transformers and tokenizers themselves. tests/run.sh --full calls it. The Python environment is the benchmarks'
# (build/peers, or the one that DSRT_PEERS names), made where it is missing, which downloads a few gigabytes once.
set -u
here=$(cd "$(dirname "$0")" && pwd)
DSRT_LIBRARY=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
export DSRT_LIBRARY
cd "$here/../.." || exit 1
. tests/support/peers.sh || exit 1
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false OMP_NUM_THREADS=2
result=0
"$venv/bin/python" tests/transformers/models.py || result=1
"$venv/bin/python" tests/transformers/fuzz.py || result=1
"$venv/bin/python" tests/transformers/texts.py || result=1
"$venv/bin/python" tests/transformers/generate.py || result=1
exit $result
