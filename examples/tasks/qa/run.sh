#!/bin/sh
# Answers questions about the options of GNU programs by a piece of their manual pages: MiniLM learns from 861 questions; 123 others, about other programs,
# show how well, as SQuAD's exact match and F1.
task=qa
. "$(dirname "$0")/../common.sh"
say "Weights and manual pages"
sh examples/sentiment/fetch.sh examples/work
sh examples/tasks/fetch.sh $task "$work"
python3 examples/tasks/baseline.py $task
say "Training"
"$train" examples/tasks/qa/config.json --output "$out" --epochs 5 --eval-every 54 --title "Answers from manual pages, MiniLM-L6" --add "$precision" "$@"
score "Answers to questions that training did not see" examples/tasks/qa/config.json --model "$out/model" --predictions "$out/predictions.jsonl"
