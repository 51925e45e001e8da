#!/bin/sh
# A small GPT that answers: first it learns English from the Jargon File, byte by byte, then the Debian FAQ's questions and answers and the Jargon File's
# definitions as conversations, of which only what the assistant says is learned. Every 20th conversation is kept from the second part and shows how well,
# as perplexity a byte of the answers; the first part's loss on them is the baseline.
task=chat
. "$(dirname "$0")/../common.sh"
say "Texts"
sh examples/tasks/fetch.sh chat "$work"
sh examples/tasks/fetch.sh text "$work"
say "Learning English"
[ -d "$out/base/model" ] || "$train" examples/tasks/chat/pretrain.json --output "$out/base" --steps 600 --eval-every 100 --eval-rows 40 --title "English from the Jargon File" --add "$precision"
score "Answers before tuning" examples/tasks/chat/config.json --model "$out/base/model"
say "Learning to answer"
"$train" examples/tasks/chat/config.json --output "$out" --steps 300 --eval-every 100 --title "Answers, a small GPT" --add "$precision" "$@"
score "Answers that training did not see" examples/tasks/chat/config.json --model "$out/model"
say "At work"
template=$(python3 -c 'import json; print(json.load(open("examples/tasks/chat/config.json"))["data"]["chat_template"])')
printf 'What is a hacker?\nHow do I install a package?\n' | "$dsrt" chat "$out/model" --template "$template" --temperature 0 --max-new-tokens 120
