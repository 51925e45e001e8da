#!/bin/sh
# guide.sh BUILD CC CXX: the programs that the guide and the pages of the languages print are compiled and run as they stand, on small models of the
# tests' under the names that the pages use; the messages of errors.md are provoked and compared.
set -u
build=$(cd "$1" && pwd) cc=$2 cxx=$3
source=$(cd "$(dirname "$0")/../.." && pwd)
guide=$source/examples/guide data=$source/tests/data
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0 failed=0
flags="-I$source/include -L$build -ldsrt -Wl,-rpath,$build"
ok() { if [ "$2" = 0 ]; then passed=$((passed + 1)); else failed=$((failed + 1)); tail -n 12 "$work/log"; echo "FAILED examples/guide: $1"; fi; }

# blocks PAGE KIND NAME: each fenced block of that kind as $work/NAME-1, -2 ...
blocks() { awk -v kind="$2" -v name="$work/$3" '$0 == "```" kind { on = 1; file = name "-" ++n; next } /^```/ { on = 0 } on { print > file } END { exit n == 0 }' "$1"; }

# A folder with what the pages speak of.
place() {
    rm -rf "$work/place" && mkdir -p "$work/place/minilm" "$work/place/gpt2" && cd "$work/place" || exit 1
    cp "$data/models/bert-mlm/config.json" "$data/models/bert-mlm/model.safetensors" "$data/abi/vocab.txt" minilm
    cp "$data/models/gpt2/config.json" "$data/models/gpt2/model.safetensors" "$data/languages/tokenizer.json" gpt2
    { echo "review,good"; for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do printf 'hello world %s,1\n"playing, hello %s",0\n' $i $i; done; } >reviews.csv
    for i in 1 2 3 4 5 6; do echo "{\"ids\": [$i, 2, 3, 4]}"; done >rows.jsonl
    echo '{"train_batch_size": 2, "optimizer": {"type": "AdamW", "params": {"lr": 0.001}}, "zero_optimization": {"stage": 1}, "fp16": {"enabled": false}}' >ds.json
}

for page in c many-hosts; do
    blocks "$guide/$page.md" c "$page.c" || { failed=$((failed + 1)); echo "FAILED examples/guide: $page.md has no program"; }
    for program in "$work/$page.c"-*; do
        place
        # shellcheck disable=SC2086
        "$cc" -x c -std=c99 -Wall -Wextra -Werror "$program" -x none $flags -o program >"$work/log" 2>&1 && ./program >"$work/log" 2>&1
        ok "$page.md, program ${program##*-}" $?
    done
done
blocks "$guide/cpp.md" cpp cpp
place
# shellcheck disable=SC2086
"$cxx" -x c++ -std=c++17 -Wall -Wextra -Werror "$work/cpp-1" -x none $flags -o program >"$work/log" 2>&1 && ./program >"$work/log" 2>&1 && grep -q 'steps' "$work/log"
ok "cpp.md" $?

site=$build/languages/python/site python=/usr/bin/python3
if [ -d "$site" ] && "$python" -c 'import numpy' 2>/dev/null; then
    LD_LIBRARY_PATH=$(cat "$build/languages/libdir")
    export LD_LIBRARY_PATH
    blocks "$guide/from-deepspeed.md" python python && blocks "$source/bindings/python/README.md" python readme
    for program in "$work/python-1" "$work/readme-1"; do
        place
        PYTHONPATH=$site PYTHONDONTWRITEBYTECODE=1 "$python" "$program" >"$work/log" 2>&1 && [ -s tuned/model.safetensors ]
        ok "Python, ${program##*/}" $?
    done
    unset LD_LIBRARY_PATH
else echo "SKIPPED examples/guide: Python: the package was not built (bindings/python)"; fi

# Every quoted message is one that comes, "..." standing for anything.
place
# shellcheck disable=SC2086
{ "$cc" "$source/tests/examples/guide_errors.c" $flags -o errors && ./errors && "$cc" "$source/tests/bindings/mistakes.c" $flags -o mistakes && ./mistakes | sed 's/^[^:]*: //'; } >"$work/said" 2>"$work/log"
ok "the programs that make mistakes" $?
blocks "$guide/errors.md" messages quoted
cat "$work"/quoted-* >"$work/quotes"
[ "$(wc -l <"$work/quotes")" -gt 20 ] || { failed=$((failed + 1)); echo "FAILED examples/guide: errors.md quotes too little"; }
while IFS= read -r line; do
    pattern=$(printf '%s' "$line" | sed -e 's/[][\.*^$]/\\&/g' -e 's/\\\.\\\.\\\./.*/g')
    grep -q "^$pattern\$" "$work/said"
    result=$?
    [ $result = 0 ] || grep "^${line%%: *}" "$work/said" >"$work/log"
    ok "errors.md quotes what nobody says: $line" $result
done <"$work/quotes"
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
