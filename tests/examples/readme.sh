#!/bin/sh
# readme.sh README CC FOLDER: compiles the C program that README.md prints, as it is printed and with the command that stands below it, against
# the installed library that pkg-config finds, and runs it on a small BERT and a CSV file. FOLDER is an empty one to work in.
set -eu
readme=$1 cc=$2 work=$3
data=$(cd "$(dirname "$readme")" && pwd)/tests/data
cd "$work"
awk '/^```c$/ { on = 1; next } /^```$/ { on = 0 } on' "$readme" >train.c
lines=$(wc -l <train.c)
[ "$lines" -gt 10 ] && [ "$lines" -le 32 ] || { echo "FAILED: README.md's program has $lines lines, about thirty are promised"; exit 1; }
# shellcheck disable=SC2016  # the command stands in README with its dollar sign
grep -q '^`cc train.c $(pkg-config --cflags --libs dsrt)`' "$readme" || { echo "FAILED: README.md does not print the command that is tried here"; exit 1; }
mkdir minilm
cp "$data/models/bert-mlm/config.json" "$data/models/bert-mlm/model.safetensors" "$data/abi/vocab.txt" minilm
{
    echo "review,good"
    for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do printf 'hello world %s,1\n"playing, hello %s",0\n' $i $i; done
} >reviews.csv
# shellcheck disable=SC2046,SC2086
"$cc" -Wall -Wextra -Werror train.c $(pkg-config --cflags --libs dsrt) -Wl,-rpath,"$(pkg-config --variable=libdir dsrt)" ${DSRT_EXTRA_FLAGS:-}
./a.out >out 2>err || { cat out err; exit 1; }
[ "$(grep -c '^loss [0-9.]*$' out)" = 2 ] || { echo "FAILED: 40 rows are 2 batches of 32, but it printed:"; cat out; exit 1; }
for file in config.json model.safetensors vocab.txt; do [ -s "tuned/$file" ] || { echo "FAILED: tuned/$file was not exported"; exit 1; }; done
echo "README's program ($lines lines) trains and exports"
