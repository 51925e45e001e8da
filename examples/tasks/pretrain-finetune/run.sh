#!/bin/sh
# Whether it pays to learn from much plain text first: a small GPT learns 2,400 steps from two dictionaries of computing and 100 from the Debian FAQ, another up to the same
# 2,500 from the FAQ alone, which costs as much; it stops where it gets no better. Of the FAQ's paragraphs every 10th is kept from both; perplexity says which knows
# them better.
task=pretrain-finetune
. "$(dirname "$0")/../common.sh"
english
say "The FAQ after plain text"
"$train" examples/tasks/$task/config.json --output "$out" --steps 100 --eval-every 20 --title "The FAQ after plain text" --add "$precision" "$@"
say "The FAQ alone"
"$train" examples/tasks/$task/scratch.json --output "$out/scratch" --steps 2500 --eval-every 50 --patience 6 --title "The FAQ alone" --add "$precision" "$@"
score "After plain text" examples/tasks/$task/config.json --model "$out/model"
score "From nothing, at most at the same cost" examples/tasks/$task/scratch.json --model "$out/scratch/model"
