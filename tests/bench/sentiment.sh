#!/bin/sh
# The quickstart's training beside PyTorch's, plain and grouped by length, in one run: seconds and test accuracy for each seed.
# Usage: tests/bench/sentiment.sh [--seeds 3] [--only f32|bf16]
set -eu
cd "$(dirname "$0")/../.."
. tests/bench/peers.sh
sh tests/deps.sh python3-pip unzip
cmake --build build/release --target train
sh examples/sentiment/fetch.sh examples/work
exec "$venv/bin/python" tests/bench/sentiment.py --train build/release/examples/train --peer tests/bench/peers/torch_sentiment.py "$@"
