#!/bin/sh
# Finds names in tweets: MiniLM learns from 2,155 tweets that people have marked; 239 others show how well, as seqeval's F1 of whole entities.
task=ner
. "$(dirname "$0")/../common.sh"
say "Weights and tweets"
sh examples/sentiment/fetch.sh examples/work
sh examples/tasks/fetch.sh $task "$work"
python3 examples/tasks/baseline.py $task
say "Training"
"$train" examples/tasks/ner/config.json --output "$out" --epochs 3 --eval-every 135 --title "Names in tweets, MiniLM-L6" --add "$precision" "$@"
score "Entities of tweets that training did not see" examples/tasks/ner/config.json --model "$out/model" --predictions "$out/predictions.jsonl"
