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
lazy=-Wl,-z,lazy  # a function is bound at its first call, so that calls can be noted
mkdir -p "$work" "$made/bin" "$made/called"
rm -f "$made/called/$language"
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

# noted COMMAND...: runs it; which functions of the library it calls is written down (tests/abi/audit.c), for surface.py.
noted() { if [ -e "$build/tests/libabi_audit.so" ]; then env LD_AUDIT="$build/tests/libabi_audit.so" DSRT_CALLED="$made/called/$language" "$@"; else "$@"; fi; }

# The program that the language's README prints, and a folder $work/place with what it speaks of: a small model under its name, and reviews.
readme_program() { awk -v kind="$1" '$0 == "```" kind { on = 1; next } /^```/ { on = 0 } on' "$source/bindings/$language/README.md"; }
readme_place() {
    rm -rf "$work/place"
    mkdir -p "$work/place/minilm"
    cp "$DSRT_TEST_DATA/models/bert-mlm/config.json" "$DSRT_TEST_DATA/models/bert-mlm/model.safetensors" "$DSRT_TEST_DATA/abi/vocab.txt" "$work/place/minilm"
    { echo "review,good"; for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do printf 'hello world %s,1\n"playing, hello %s",0\n' $i $i; done; } >"$work/place/reviews.csv"
}
# readme_runs COMMAND...: in that folder; it leaves the folder that transformers loads.
readme_runs() { case_of "README.md's program runs" sh -c 'cd "$0" && "$@" && [ -s tuned/model.safetensors ]' "$work/place" "$@"; }

# program NAME COMMAND: leaves BUILD/languages/bin/NAME-LANGUAGE.
program() {
    { echo '#!/bin/sh'; echo "LD_LIBRARY_PATH=$LD_LIBRARY_PATH; export LD_LIBRARY_PATH"; echo "cd '$source' && exec $2 \"\$@\""; } >"$made/bin/$1-$language"
    chmod +x "$made/bin/$1-$language"
}

finish() { echo "$passed passed, $failed failed"; [ "$failed" = 0 ]; exit; }
