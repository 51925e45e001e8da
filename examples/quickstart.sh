#!/bin/sh
# Fine-tunes real weights on real text: MiniLM (Wang et al. 2020) learns whether a sentence of a film review is positive or negative.
# Installs what is missing, builds, fetches weights and reviews, trains, tests, reports, exports, and classifies what you type.
#   sh examples/quickstart.sh [options of the train program, such as --add seed=2]
# PRECISION=f32 or bf16: bf16 is the default where the processor multiplies it.
set -eu
cd "$(dirname "$0")/.."
work=examples/work
out=$work/sentiment
say() { printf '\n== %s\n' "$*"; }

say "Packages"
sh tests/deps.sh python3-pip unzip
echo "all there"

say "Building"
cmake --preset release >/dev/null
cmake --build --preset release --target train >$work.log 2>&1 || { tail -n 40 $work.log; exit 1; }
rm -f $work.log
train=build/release/examples/train

say "Weights and reviews"
sh examples/sentiment/fetch.sh "$work"

if [ -z "${PRECISION:-}" ]; then
    if grep -qw avx512_bf16 /proc/cpuinfo; then PRECISION=bf16; else PRECISION=f32; fi
fi
set -- --output "$out" --eval-every 100 --patience 3 --title "Sentiment of film reviews, MiniLM-L6" "$@"
if [ "$PRECISION" = bf16 ]; then set -- --add 'bf16={"enabled": true}' "$@"; fi

say "Training ($PRECISION)"
"$train" examples/sentiment/config.json "$@"

say "The exported model at work"
"$train" --classify "$out/model" "A moving, funny and beautifully acted film." "Two hours of my life that I will never get back." \
    "It looks expensive, and that is all there is to say for it."
echo
echo "Your own sentences: $train --classify $out/model"
if [ -t 0 ] && [ -t 1 ]; then exec "$train" --classify "$out/model"; fi
