#!/bin/sh
# run.sh [LIBRARY]: libdsrt beside transformers and tokenizers themselves. tests/run.sh --full calls it. The Python environment is the benchmarks'
# (build/peers, or the one that DSRT_PEERS names), made where it is missing, which downloads a few gigabytes once. Ends with "N passed, N failed".
set -u
cd "$(dirname "$0")/../.." || exit 1
DSRT_LIBRARY=$(realpath "${1:-build/release/libdsrt.so}")
export DSRT_LIBRARY
. tests/support/peers.sh || exit 1
for module in compressed_tensors deepspeed; do # builds what it needs only from torch as it is; what can't be had is skipped by name
    "$venv/bin/python" -c "import importlib.util as i, sys; sys.exit(not i.find_spec('$module'))" || "$venv/bin/python" -m pip install --quiet --no-build-isolation "$module"
done
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false OMP_NUM_THREADS=2 TQDM_DISABLE=1 RUST_BACKTRACE=0
passed=0 failed=0
for script in models fresh fuzz texts stages recipes compressed generate; do
    log=build/transformers-$script.log
    "$venv/bin/python" "tests/transformers/$script.py" >"$log" 2>&1
    # Panics of tokenizers, which its script counts, and progress bars that do not ask whether anybody looks stay in the log.
    sed -e '/^[0-9]* passed, [0-9]* failed$/d' -e '/^thread .* panicked at/{N;d;}' -e '/^note: run with .RUST_BACKTRACE/d' -e '/it\/s\]$/d' -e '/^$/d' "$log"
    counts=$(sed -n 's/^\([0-9]*\) passed, \([0-9]*\) failed$/\1 \2/p' "$log" | tail -n 1)
    [ -n "$counts" ] || { echo "FAILED $script.py: it did not come to its end (log: $log)"; counts="0 1"; }
    echo "$script: $counts"
    passed=$((passed + ${counts% *})) failed=$((failed + ${counts#* }))
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
