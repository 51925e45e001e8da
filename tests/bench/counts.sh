#!/bin/sh
# Instructions that the library runs besides its kernels, counted by callgrind and held to bench/counts.txt within 5 %: what a clock can't tell on a
# busy machine. Usage: sh bench/counts.sh PROGRAM [--update]
set -u
program=$1 expected=bench/counts.txt
if ! command -v valgrind >/dev/null; then
    echo "SKIPPED bench/counts: valgrind is not installed (Debian's package valgrind)"
    echo "0 passed, 0 failed"
    exit 0
fi
out=$(mktemp -d) || exit 1
trap 'rm -rf "$out"' EXIT

# NAME FUNCTION ARGUMENTS...: the instructions under FUNCTION.
count() {
    name=$1 function=$2
    shift 2
    if ! DSRT_CPU=sse2 valgrind --tool=callgrind --callgrind-out-file="$out/$name" --toggle-collect="$function" "$program" "$@" >"$out/log" 2>&1; then
        cat "$out/log" >&2
        exit 1
    fi
    sed -n 's/^summary: //p; s/^totals: //p' "$out/$name" | head -n 1
}

passed=0 failed=0
: >"$out/new"
while read -r name function arguments; do
    # shellcheck disable=SC2086
    found=$(count "$name" "$function" $arguments) || exit 1
    echo "$name $found" >>"$out/new"
    [ "${2:-}" = --update ] && continue
    known=$(awk -v n="$name" '$1 == n { print $2 }' "$expected")
    if awk -v found="$found" -v known="$known" 'BEGIN { exit !(found > 0 && known > 0 && found >= 0.95 * known && found <= 1.05 * known) }'; then
        passed=$((passed + 1))
        echo "$name: $found instructions, $known expected"
    else
        failed=$((failed + 1))
        echo "$name: $found instructions, ${known:-none} expected within 5 %: if that is meant, sh bench/counts.sh PROGRAM --update" >&2
    fi
done <<LIST
dispatch ds::Plan::work* dispatch
tokenizer_gpt2 ds_tokenizer_encode tokenizer data/tokenizers/gpt2/tokenizer.json
tokenizer_bert ds_tokenizer_encode tokenizer data/tokenizers/bert/tokenizer.json
tokenizer_unigram ds_tokenizer_encode tokenizer data/tokenizers/unigram/tokenizer.json
plan ds_plan plan
LIST
if [ "${2:-}" = --update ]; then
    cp "$out/new" "$expected"
    exit 0
fi
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
