#!/bin/sh
# same.sh BUILD: one config, one data set, one seed: every language that was built prints bit-equal losses and writes the same text, resumes
# the checkpoint of every other to the same end, and gets the same words for the same mistakes.
. "$(dirname "$0")/common.sh"
half=5 whole=9
languages=
for train in "$made"/bin/train-*; do [ -x "$train" ] && languages="$languages ${train##*/train-}"; done
[ -n "$languages" ] || { echo "FAILED bindings/same: no trainer was built"; echo "0 passed, 1 failed"; exit 1; }
rm -rf "$work"
mkdir -p "$work"

same() { # same WHAT FILE REFERENCE
    if [ -s "$2" ] && cmp -s "$2" "$3"; then passed=$((passed + 1)); else failed=$((failed + 1)); diff "$2" "$3" | head -n 10; echo "FAILED bindings/same: $1"; fi
}
losses() { awk '/^step / { print $2, $NF } /^writes: /'; }

for l in $languages; do
    "$made/bin/train-$l" "$work/whole-$l" $whole 2>"$work/err" | losses >"$work/whole-$l.txt"
    [ "$(wc -l <"$work/whole-$l.txt")" = $((whole + 1)) ] || { failed=$((failed + 1)); tail -n 5 "$work/err"; echo "FAILED bindings/same: train-$l printed $(wc -l <"$work/whole-$l.txt") lines, not $((whole + 1))"; }
    same "$l trains as C does" "$work/whole-$l.txt" "$work/whole-c.txt"
    if [ -x "$made/bin/mistakes-$l" ]; then
        "$made/bin/mistakes-$l" >"$work/mistakes-$l.txt" 2>"$work/err" || tail -n 5 "$work/err"
        same "$l hears the same of its mistakes as C does" "$work/mistakes-$l.txt" "$work/mistakes-c.txt"
    fi
    "$made/bin/train-$l" "$work/half-$l" $half >"$work/log" 2>&1 || tail -n 5 "$work/log"
done
[ "$(grep -c ': DS_E_' "$work/mistakes-c.txt")" -ge 24 ] || { failed=$((failed + 1)); echo "FAILED bindings/same: too few mistakes"; }
sed -n "$((half + 1)),\$p" "$work/whole-c.txt" >"$work/rest.txt"
for from in $languages; do
    for to in $languages; do
        rm -rf "$work/resumed"
        cp -r "$work/half-$from" "$work/resumed" 2>/dev/null
        "$made/bin/train-$to" "$work/resumed" $whole --resume 2>"$work/err" | losses >"$work/resumed.txt"
        same "$to resumes the checkpoint of $from" "$work/resumed.txt" "$work/rest.txt"
    done
done
echo "compared:$languages"
finish
