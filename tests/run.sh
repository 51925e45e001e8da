#!/bin/sh
# The whole test suite: installs what is missing, builds, runs every program, and ends with "N passed, N failed".
#   tests/run.sh           the release build, then what reads texts and files of others under AddressSanitizer, LeakSanitizer and
#                          UndefinedBehaviorSanitizer
#   tests/run.sh --deps    only installs
#   tests/run.sh --quick   only the release build
#   tests/run.sh --asan    only the sanitizers, and everything under them (half an hour of building on 2 cores)
#   tests/run.sh --full    the slow sweeps too: both of README.md's commands and the Dockerfile in bare Debians, the library on Arm (by qemu-user), 100,000 random graphs, ThreadSanitizer, kernels for every GPU architecture, and checks against transformers and tokenizers themselves
#                          (in a Python environment that is made in build/peers; DSRT_PEERS names another)
# DSRT_JOBS: how many programs are compiled or run at a time (default: one a processor).
set -u
cd "$(dirname "$0")/.." || exit 1
presets="release asan-ubsan"
readers="base tokenizer text_stream readers batching config lr ckpt ckpt_crash chat report sparse_layout"
gpus=90
for arg in "$@"; do
    case $arg in
        --deps) sh tests/deps.sh chromium; exec sh tests/deps.sh $(sh tests/bindings/packages.sh) ;;
        --quick) presets="release" ;;
        --asan) presets="asan-ubsan"; whole=1 ;;
        --full) presets="release asan-ubsan tsan"; whole=1; DSRT_FULL=1; export DSRT_FULL; gpus="80;90;100;ptx" ;;
        *) echo "tests/run.sh: unknown argument $arg; known are --deps, --quick, --asan and --full" >&2; exit 2 ;;
    esac
done
sh tests/deps.sh || exit 1
languages=$(sh tests/bindings/packages.sh)
# shellcheck disable=SC2086
sh tests/deps.sh $languages valgrind || echo "the languages and tools whose packages are missing will be skipped"
# A browser for the page of examples/service (125 MB to load beside a desktop's libraries), by itself: where it can't be had, that test alone is skipped.
sh tests/deps.sh chromium || echo "the page of examples/service will not be looked at"
jobs=${DSRT_JOBS:-$(nproc)}
ASAN_OPTIONS="detect_leaks=1:strict_string_checks=1:${ASAN_OPTIONS:-}"
LSAN_OPTIONS="suppressions=$PWD/tests/support/lsan.supp:print_suppressions=0"
UBSAN_OPTIONS="print_stacktrace=1"
TSAN_OPTIONS="halt_on_error=1:suppressions=$PWD/tests/support/tsan.supp"
export ASAN_OPTIONS LSAN_OPTIONS UBSAN_OPTIONS TSAN_OPTIONS

passed=0 failed=0 skipped=0
for preset in $presets; do
    echo "== $preset"
    begin=$(date +%s)
    log=build/$preset/tests.log
    mkdir -p "build/$preset"
    targets=all which=.
    if [ "$preset" != release ] && [ "${whole:-0}" = 0 ]; then
        targets=$(for name in $readers; do echo "unit_$name"; done)
        which="^unit/($(echo "$readers" | tr ' ' '|'))$"
        echo "SKIPPED under $preset: all but $readers; --asan and --full run the rest"
    fi
    # shellcheck disable=SC2086
    if ! cmake --preset "$preset" -DDSRT_CUDA_ARCHITECTURES="$gpus" >"$log" 2>&1 || ! cmake --build --preset "$preset" -j "$jobs" --target $targets >>"$log" 2>&1; then
        tail -n 40 "$log"
        echo "FAILED build of $preset"
        failed=$((failed + 1))
        continue
    fi
    echo "built in $(($(date +%s) - begin)) s"
    # Sweeps say little new under a sanitizer that slows them tenfold: what is large is left out there.
    if [ "$preset" = release ]; then DSRT_SLOW_BUILD=0; else DSRT_SLOW_BUILD=1; fi
    export DSRT_SLOW_BUILD
    begin=$(date +%s)
    ctest --test-dir "build/$preset" -V -j "$jobs" --timeout 1500 -R "$which" >"$log" 2>&1
    sed -n -f tests/support/failures.sed "$log"
    counts=$(awk -f tests/support/count.awk "$log")
    echo "$counts" | sed '$d'
    counts=$(echo "$counts" | tail -n 1)
    echo "$preset: $counts in $(($(date +%s) - begin)) s (log: $log)"
    # shellcheck disable=SC2086
    set -- $counts
    passed=$((passed + $1)) failed=$((failed + $3)) skipped=$((skipped + $5))
    if [ $(($1 + $3)) = 0 ]; then failed=$((failed + 1)); echo "FAILED $preset: nothing ran"; fi
done
# part NAME SCRIPT: a script that ends with "N passed, N failed".
part() {
    echo "== $1"
    log=build/$(basename "$(dirname "$2")")-$(basename "$2" .sh).log
    sh "$2" >"$log" 2>&1
    grep '^FAILED\|^SKIPPED' "$log"
    counts=$(sed -n 's/^\([0-9]*\) passed, \([0-9]*\) failed$/\1 \2/p' "$log" | tail -n 1)
    # shellcheck disable=SC2086
    set -- "$1" ${counts:-0 1}
    echo "$1: $2 passed, $3 failed (log: $log)"
    passed=$((passed + $2)) failed=$((failed + $3))
    skipped=$((skipped + $(grep -c '^SKIPPED' "$log")))
}
if [ "${DSRT_FULL:-0}" = 1 ]; then
    part "transformers" tests/transformers/run.sh
    part "Arm" tests/aarch64.sh
    part "the Dockerfile" tests/dockerfile.sh
    part "a bare Debian" tests/fresh.sh
fi
[ "$skipped" = 0 ] || echo "$skipped skipped, for the reasons above"
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
