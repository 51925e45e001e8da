#!/bin/sh
# interrupt.sh TRAIN SOURCE: examples/train, stopped by Ctrl-C twice on its way and resumed, ends with the weights, moments and losses of a run that
# was left alone, to the last bit. Dropout is on, rows are shuffled, epochs end on the way, two micro-batches make a step.
set -eu
train=$1 source=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
steps=400
awk 'BEGIN { srand(3); for (i = 0; i < 260; ++i) { line = ""; for (k = 0; k < 3 + i % 9; ++k) line = line substr("the cat sat on a mat with another dog and slept ", 1 + int(rand() * 40), 4 + int(rand() * 5)); print line "\n" } }' >"$work/text.txt"
cat >"$work/config.json" <<END
{
  "model": {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "vocab_size": 257, "n_positions": 64, "n_embd": 64, "n_layer": 2, "n_head": 4,
            "resid_pdrop": 0.1, "embd_pdrop": 0.1, "attn_pdrop": 0.1},
  "tokenizer": "$source/examples/pretrain/tokenizer.json",
  "train_batch_size": 8, "gradient_accumulation_steps": 2, "seed": 5, "threads": 2,
  "optimizer": {"type": "AdamW", "params": {"lr": 3e-3}},
  "scheduler": {"type": "WarmupCosineLR", "params": {"total_num_steps": $steps, "warmup_num_steps": 20}},
  "gradient_clipping": 1.0,
  "data": {"files": "$work/text.txt", "task": "causal", "document": "paragraph", "split": {"every": 10, "take": "train"}}
}
END

# Starts a run and interrupts it once it shows a step of at least $2.
interrupted() {
    name=$1 from=$2
    shift 2
    "$train" "$work/config.json" --output "$work/resumed" --steps $steps --save-every $steps "$@" >"$work/$name.log" 2>&1 &
    process=$!
    while kill -0 $process 2>/dev/null; do
        if [ "$(grep -c '^Epoch:' "$work/$name.log")" -ge "$from" ]; then kill -INT $process 2>/dev/null || true; break; fi
        sleep 0.01
    done
    code=0
    wait $process || code=$?
    if [ $code != 130 ] || ! grep -q '^Interrupted at step' "$work/$name.log"; then
        echo "FAILED $name: exit status $code, 130 is expected"
        cat "$work/$name.log"
        exit 1
    fi
    grep '^Interrupted at step' "$work/$name.log" | sed "s,$work,.,"
}

"$train" "$work/config.json" --output "$work/whole" --steps $steps --save-every $steps >"$work/whole.log" 2>&1 || { cat "$work/whole.log"; exit 1; }
interrupted first 2
interrupted second 5 --resume
"$train" "$work/config.json" --output "$work/resumed" --steps $steps --save-every $steps --resume >"$work/last.log" 2>&1 || { cat "$work/last.log"; exit 1; }

passed=2 failed=0
same() {
    if cmp "$1" "$2"; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "FAILED: $3 differ"; fi
}
same "$work/whole/checkpoints/last/weights.safetensors" "$work/resumed/checkpoints/last/weights.safetensors" "weights"
same "$work/whole/checkpoints/last/optimizer.safetensors" "$work/resumed/checkpoints/last/optimizer.safetensors" "moments"
same "$work/whole/model/model.safetensors" "$work/resumed/model/model.safetensors" "exported models"
# Every line of losses that both printed is the same, and all of them were printed by some part of the interrupted run.
cat "$work/first.log" "$work/second.log" "$work/last.log" | grep '^Epoch:' >"$work/resumed.losses"
grep '^Epoch:' "$work/whole.log" >"$work/whole.losses"
same "$work/whole.losses" "$work/resumed.losses" "losses"
grep 'Test loss' "$work/whole.log" >"$work/whole.test"
grep 'Test loss' "$work/last.log" >"$work/resumed.test"
same "$work/whole.test" "$work/resumed.test" "test losses"
echo "$passed passed, $failed failed"
[ $failed = 0 ]
