# What the scripts of this folder share. A script gets BUILD, the build folder; it builds one language against the library that prefix.sh
# installed in BUILD/languages/prefix, runs that language's tests, and leaves two programs for same.sh in BUILD/languages/bin:
# train-LANGUAGE and mistakes-LANGUAGE, which run from the root of the source.
set -u
build=$1 language=$(basename "$0" .sh)
source=$(cd "$(dirname "$0")/../.." && pwd)
made=$build/languages
work=$made/$language
prefix=$made/prefix
passed=0 failed=0
wrapper_flags=-O0  # what SWIG writes is long, and compiled by every language: half the time goes to optimising it
PKG_CONFIG_PATH=$(cat "$made/pkgconfig" 2>/dev/null)
LD_LIBRARY_PATH=$(cat "$made/libdir" 2>/dev/null)
DSRT_TEST_DATA=$source/tests/data
export PKG_CONFIG_PATH LD_LIBRARY_PATH DSRT_TEST_DATA
mkdir -p "$work" "$made/bin"
rm -f "$made/bin/train-$language" "$made/bin/mistakes-$language"

# skip REASON: this language's tests can't run here.
skip() { echo "SKIPPED bindings/$language: $1"; rm -f "$made/bin/"*"-$language"; exit 0; }

# case_of NAME COMMAND...: one case; its output is shown where it fails.
case_of() {
    name=$1
    shift
    if "$@" >"$work/log" 2>&1; then passed=$((passed + 1)); else failed=$((failed + 1)); tail -n 60 "$work/log"; echo "FAILED bindings/$language: $name"; return 1; fi
}

# counted COMMAND...: a program that ends with "N passed, N failed" itself.
counted() {
    "$@" >"$work/log" 2>&1
    code=$?
    cat "$work/log" | grep '^SKIPPED'
    counts=$(sed -n 's/^\([0-9][0-9]*\) passed, \([0-9][0-9]*\) failed$/\1 \2/p' "$work/log" | tail -n 1)
    # shellcheck disable=SC2086
    set -- ${counts:-0 0} $code "$*"
    if [ "$2" = 0 ] && { [ "$3" != 0 ] || [ "$1" = 0 ]; }; then failed=$((failed + 1)); fi
    passed=$((passed + $1)) failed=$((failed + $2))
    if [ "$2" != 0 ] || [ "$3" != 0 ] || [ "$1" = 0 ]; then tail -n 60 "$work/log"; echo "FAILED bindings/$language: $4 (status $3)"; fi
}

# program NAME COMMAND: leaves BUILD/languages/bin/NAME-LANGUAGE.
program() {
    { echo '#!/bin/sh'; echo "LD_LIBRARY_PATH=$LD_LIBRARY_PATH; export LD_LIBRARY_PATH"; echo "cd '$source' && exec $2 \"\$@\""; } >"$made/bin/$1-$language"
    chmod +x "$made/bin/$1-$language"
}

finish() { echo "$passed passed, $failed failed"; [ "$failed" = 0 ]; exit; }
