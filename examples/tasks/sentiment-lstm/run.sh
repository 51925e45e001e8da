#!/bin/sh
# The quickstart's reviews by an LSTM that learns from nothing, for comparison with MiniLM's (sh examples/quickstart.sh): same words, same split.
task=sentiment-lstm
. "$(dirname "$0")/../common.sh"
say "Words and reviews"
sh examples/sentiment/fetch.sh examples/work
python3 examples/tasks/baseline.py $task
say "Training"
"$train" examples/tasks/$task/config.json --output "$out" --epochs 3 --eval-every 100 --title "Sentiment of film reviews, an LSTM" "$@"
score "Reviews that training did not see" examples/tasks/$task/config.json --model "$out/model"
