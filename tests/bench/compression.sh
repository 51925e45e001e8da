#!/bin/sh
# What each way of making a model smaller costs on the sentiment task: size, processor seconds of evaluation, accuracy before and after. Trains once whole and once a technique
# that needs training.
# Usage: tests/bench/compression.sh [--steps N] [--repeats 3] [--only 'NAME;NAME'] [--threads N (of trainings)] [--again (evaluates what an earlier run trained)] [--f32]
#   [--whole FOLDER (a fine-tuned model to begin from)]
set -eu
cd "$(dirname "$0")/../.."
sh tests/deps.sh python3-pip unzip
cmake --preset release >/dev/null
cmake --build build/release --target train dsrt_command
sh examples/sentiment/fetch.sh examples/work
exec python3 tests/bench/compression.py --train build/release/examples/train --dsrt build/release/bindings/cli/dsrt --config examples/sentiment/config.json --work examples/work/compression "$@"
