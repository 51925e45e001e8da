#!/bin/sh
# Answers questions about computing by a piece of a dictionary's text: MiniLM learns from 1,881 questions (who wrote a program, when, where, in which language); 209 others, about
# other terms, show how well, as SQuAD's exact match and F1.
task=qa
. "$(dirname "$0")/../common.sh"
say "Weights and the dictionary"
sh examples/sentiment/fetch.sh examples/work
sh examples/tasks/fetch.sh $task "$work"
python3 examples/tasks/baseline.py $task
say "Training"
"$train" examples/tasks/qa/config.json --output "$out" --steps 360 --eval-every 90 --title "Answers from a dictionary, MiniLM-L6" --add "$precision" "$@"
score "Answers to questions that training did not see" examples/tasks/qa/config.json --model "$out/model" --predictions "$out/predictions.jsonl"
