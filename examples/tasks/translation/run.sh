#!/bin/sh
# Translates short messages of programs into German: a small Marian learns from nothing but the gettext catalogs of Debian packages; messages that have too little in common with
# those to be copied from them show how well, as sacrebleu's BLEU.
task=translation
. "$(dirname "$0")/../common.sh"
say "Catalogs"
sh examples/tasks/fetch.sh $task "$work"
python3 examples/tasks/baseline.py $task
say "Training"
"$train" examples/tasks/translation/config.json --output "$out" --steps 2000 --eval-every 250 --eval-options '{"generate": {"max_new_tokens": 60}}' \
    --title "Messages into German, a small Marian" --add "$precision" "$@"
score "Messages that training did not see" examples/tasks/translation/config.json --model "$out/model" --generate '{"num_beams": 4, "max_new_tokens": 60}' \
    --predictions "$out/predictions.jsonl"
say "At work"
"$dsrt" generate "$out/model" "The file could not be opened" "Select a color" "Remove all unused packages" --temperature 0
