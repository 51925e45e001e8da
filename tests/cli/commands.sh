#!/bin/sh
# commands.sh DSRT DATA: the command `dsrt` as a user types it: what it answers, in text and JSON, and how it fails.
set -u
dsrt=$1 data=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0 failed=0
# is NAME CODE PATTERN COMMAND...: ends with CODE, and standard output or error matches PATTERN
is() {
    name=$1 code=$2 pattern=$3
    shift 3
    "$@" >"$work/out" 2>&1 </dev/null
    got=$?
    if [ "$got" = "$code" ] && grep -Eq -e "$pattern" "$work/out"; then passed=$((passed + 1)); else
        failed=$((failed + 1))
        echo "FAILED $name: exit $got (expected $code), nothing matches '$pattern' in:"
        head -n 5 "$work/out"
    fi
}
model=$data/models/gpt2
cat >"$work/config.json" <<END
{"model": "$model", "train_batch_size": 2, "max_seq_length": 16, // two rows
 "optimizer": {"type": "AdamW", "params": {"lr": 0.001}}}
END
is version 0 'dsrt 0\.1\.0' "$dsrt" --version
is help_lists_commands 0 'tokenize' "$dsrt" --help
is help_has_examples 0 'dsrt plan config.json' "$dsrt" plan --help
is no_command_is_usage 2 'subcommand is required' "$dsrt"
is unknown_command_is_named 2 'nope; commands are .*plan' "$dsrt" nope
is usage_error_json 2 '"error"' "$dsrt" plan "$work/config.json" --json --nothing
is full_disk_is_told 1 'could not be written' sh -c '"$0" config --json >/dev/full' "$dsrt"
is options_must_be_an_object 2 '--options: must be a JSON object.* is \[1\]' "$dsrt" generate "$model" x --options '[1]'
is options_must_be_json 2 'must be a JSON object.* is \{' "$dsrt" generate "$model" x --options '{'
is generate_is_named 1 '--generate: not JSON' "$dsrt" evaluate "$work/config.json" --generate '{'
is tag_needs_a_checkpoint 2 'tag requires --checkpoint' "$dsrt" export "$work/config.json" "$work/x" --tag best
is bench_too_many_rows 1 'more than a micro-batch may have' "$dsrt" bench "$work/config.json" --rows 1000000000
is bench_steps_have_a_range 2 'not in range' "$dsrt" bench "$work/config.json" --steps 99999999999
is unknown_option_is_usage 2 'not expected' "$dsrt" plan "$work/config.json" --nothing
is plan 0 'optimizer state' "$dsrt" plan "$work/config.json"
is plan_json 0 '"optimizer_state": [0-9]+' "$dsrt" plan "$work/config.json" --json
is plan_predicts_time 0 'time of a step on this machine, about [0-9]' "$dsrt" plan "$work/config.json"
is plan_predicts_time_json 0 '"step_seconds": [0-9]' "$dsrt" plan "$work/config.json" --json
is plan_without_time 0 'timetable' "$dsrt" plan "$work/config.json" --no-time
is plan_of_a_pipeline 0 'idle +[0-9.]+ s' "$dsrt" plan "$data/../../examples/parallel/pipeline.json"
for layout in tensor experts long_text; do
    is "plan_of_$layout" 0 'sent per step +[0-9.]+ MiB' "$dsrt" plan "$data/../../examples/parallel/$layout.json" --no-time
done
is plan_names_the_key 1 'optimizr.*optimizer' "$dsrt" plan '{"optimizr": 1}'
is plan_error_json 1 '"status": "DS_E_CONFIG"' "$dsrt" plan '{"optimizr": 1}' --json
is check_config 0 'sound config' "$dsrt" check "$work/config.json"
is check_model 0 'sound model' "$dsrt" check "$model"
is check_nothing_there 1 'nowhere' "$dsrt" check "$work/nowhere"
is bench 0 'tokens a second' "$dsrt" bench "$work/config.json" --steps 2 --length 8
is export 0 'step 0' "$dsrt" export "$work/config.json" "$work/model"
is exported_model_is_sound 0 'sound model' "$dsrt" check "$work/model"
is export_without_checkpoint 1 'none' "$dsrt" export "$work/config.json" "$work/model" --checkpoint "$work/none"
# Weights are rounded from the third update on, which only the checkpoint tells.
for row in 1 2 3 4 5 6 7 8; do echo "{\"ids\": [$row, 2, 3, 4]}"; done >"$work/rows.jsonl"
cat >"$work/rounds.json" <<END
{"model": "$model", "train_batch_size": 2, "optimizer": {"type": "AdamW", "params": {"lr": 0.001}}, "data": {"files": "$work/rows.jsonl", "columns": {"input_ids": "ids"}},
 "compression_training": {"weight_quantization": {"shared_parameters": {"enabled": true, "schedule_offset": 3, "quantize_weight_in_forward": true, "quantize_groups": 64},
   "different_groups": {"all": {"params": {"start_bits": 4, "target_bits": 4}, "modules": ["c_fc"]}}}}}
END
is train 0 'Training time' "$dsrt" train "$work/rounds.json" --output "$work/run" --steps 4 --save-every 2 --no-export
is export_of_a_checkpoint 0 'step 4' "$dsrt" export "$work/rounds.json" "$work/rounded" --checkpoint "$work/run/checkpoints" --quantized
is weights_are_in_few_bits 0 '"num_bits": 4' cat "$work/rounded/config.json"
is export_before_rounding 1 'no weight of this engine is in few bits' "$dsrt" export "$work/rounds.json" "$work/early" --quantized
tokenizer=$(find "$data/tokenizers" -name tokenizer.json | sort | head -n 1)
is decode_names_what_is_no_id 1 '"4294967397" is not a token id' "$dsrt" tokenize "$tokenizer" --decode 4294967397
is tokenize_json_of_bad_utf8 0 '"ids"' "$dsrt" tokenize "$tokenizer" "$(printf 'a\377')" --json
is tokenize_json 0 '"offsets"' "$dsrt" tokenize "$tokenizer" 'hello' --json
ids=$("$dsrt" tokenize "$tokenizer" 'hello' --plain)
is tokens_decode 0 'hello' "$dsrt" tokenize "$tokenizer" --decode "$ids"
is not_an_id 1 'not a token id' "$dsrt" tokenize "$tokenizer" --decode 1x
is topology 0 'hwloc' "$dsrt" topology
is generate_needs_a_tokenizer 1 'tokenizer' "$dsrt" generate "$model" 'hello'
is chat_needs_a_tokenizer 1 'tokenizer' "$dsrt" chat "$model"
is config_part 0 'zero_optimization.stage' "$dsrt" config zero_optimization
is config_unknown 1 'no key contains' "$dsrt" config no_such_key
"$dsrt" config --markdown >"$work/config.md"
is the_guide_lists_the_keys_of_today 0 '^same$' sh -c "diff -q '$work/config.md' '$data/../../examples/guide/config.md' && echo same"
is train_help 0 '--eval-every' "$dsrt" train --help-options
is train_wants_a_config 1 'nowhere' "$dsrt" train "$work/nowhere.json"
for shell in bash zsh fish man; do is "completion_$shell" 0 'tokenize' "$dsrt" completion "$shell"; done
"$dsrt" completion bash >"$work/complete" && is bash_reads_its_completion 0 '^$' sh -c "bash -n '$work/complete' && echo"
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
