#!/bin/sh
# The tasks of examples/tasks by libdsrt and by plain PyTorch loops (transformers' models, torch.optim.AdamW, a fixed batch size, rows padded to the longest):
# seconds of training and the score, three seeds each, taken in turn.
# Usage: tests/bench/tasks.sh [--only TASK] [--seeds 3] [--steps N (of both: timed, not scored)] [--dtype f32|bf16] [--grouped (PyTorch on rows of like length)] [--keep FILE (goes on with what an interrupted run left in it)]
set -eu
cd "$(dirname "$0")/../.."
. tests/bench/peers.sh
cmake --build build/release --target train dsrt_command
sh examples/sentiment/fetch.sh examples/work
for task in ner qa translation chat text; do sh examples/tasks/fetch.sh $task examples/work/tasks; done
case " $* " in *" --only "*) case " $* " in *" chat "*) ;; *) base=unused ;; esac ;; esac
[ "${base:-}" = unused ] || [ -d examples/work/tasks/english/model ] || build/release/examples/train examples/tasks/pretrain-finetune/pretrain.json --output examples/work/tasks/english --steps 2400
exec "$venv/bin/python" tests/bench/tasks.py "$@"
