#!/bin/sh
# Translates messages of programs into German: a small T5 learns from nothing but the gettext catalogs of a few Debian packages; every 20th message is kept
# from it and shows how well, as sacrebleu's BLEU.
task=translation
. "$(dirname "$0")/../common.sh"
say "Catalogs"
sh examples/tasks/fetch.sh $task "$work"
python3 examples/tasks/baseline.py $task
say "Training"
"$train" examples/tasks/translation/config.json --output "$out" --steps 1500 --eval-every 250 --eval-rows 200 --eval-options '{"generate": {"max_new_tokens": 60}}' \
    --title "Messages into German, a small T5" --add "$precision" "$@"
score "Messages that training did not see" examples/tasks/translation/config.json --model "$out/model" --generate '{"num_beams": 4, "max_new_tokens": 60}' \
    --predictions "$out/predictions.jsonl"
say "At work"
"$dsrt" generate "$out/model" "cannot open file" "invalid option" "No such file or directory" --temperature 0
