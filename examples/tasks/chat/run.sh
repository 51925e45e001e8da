#!/bin/sh
# A small GPT that answers: it has learned English from two dictionaries of computing; now it learns their definitions, asked for as "What is ...?", and the Debian FAQ's
# questions and answers as conversations, of which only what the assistant says is learned. Every 20th conversation is kept from both parts and shows how well, as
# perplexity of the answers; that of the model before it is tuned is the baseline.
task=chat
. "$(dirname "$0")/../common.sh"
say "Texts"
sh examples/tasks/fetch.sh chat "$work"
english
score "Answers before tuning" examples/tasks/chat/config.json --model "$work/english/model"
say "Learning to answer"
"$train" examples/tasks/chat/config.json --output "$out" --steps 600 --eval-every 150 --title "Answers, a small GPT" --add "$precision" "$@"
score "Answers that training did not see" examples/tasks/chat/config.json --model "$out/model"
say "At work"
template=$(python3 -c 'import json; print(json.load(open("examples/tasks/chat/config.json"))["data"]["chat_template"])')
# A conversation each: it has learned from single questions.
for question in 'What is a compiler?' 'What is Fortran?' 'What is a token ring?'; do
    echo "$question" | "$dsrt" chat "$out/model" --template "$template" --temperature 0 --options '{"repetition_penalty": 1.2}' --max-new-tokens 60
done
