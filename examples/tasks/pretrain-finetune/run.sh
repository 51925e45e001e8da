#!/bin/sh
# Whether it pays to learn from much plain text first: a small GPT learns 600 steps from the Jargon File and 200 from the Debian FAQ, another the same 800
# from the FAQ alone, which costs as much. Of the FAQ's paragraphs every 10th is kept from both; perplexity a byte says which knows them better.
task=pretrain-finetune
. "$(dirname "$0")/../common.sh"
say "Texts"
sh examples/tasks/fetch.sh text "$work"
say "Plain text, then the FAQ"
"$train" examples/tasks/$task/pretrain.json --output "$out/base" --steps 600 --eval-every 100 --eval-rows 40 --title "English from the Jargon File" --add "$precision" "$@"
"$train" examples/tasks/$task/config.json --output "$out" --steps 200 --eval-every 50 --title "The FAQ after the Jargon File" --add "$precision" "$@"
say "The FAQ alone"
"$train" examples/tasks/$task/scratch.json --output "$out/scratch" --steps 800 --eval-every 100 --title "The FAQ alone" --add "$precision" "$@"
score "After plain text" examples/tasks/$task/config.json --model "$out/model"
score "From nothing, at the same cost" examples/tasks/$task/scratch.json --model "$out/scratch/model"
