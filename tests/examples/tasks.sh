#!/bin/sh
# tasks.sh TRAIN DSRT SOURCE [TASK ...]: the tasks of examples/tasks in a small form, on the rows of tests/data/tasks and models that begin from nothing. Each must
# learn: its loss falls below a bound, and its score lies above a baseline that takes no learning. Prints "N passed, N failed".
set -u
train=$1 dsrt=$2 source=$3
shift 3
rows=$source/tests/data/tasks
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0 failed=0

bert='"model_type": "bert", "vocab_size": 124, "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96, "max_position_embeddings": 64,
      "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "pad_token_id": 0'
gpt='"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "vocab_size": 257, "n_positions": 64, "n_embd": 48, "n_layer": 2, "n_head": 4, "resid_pdrop": 0.0, "embd_pdrop": 0.0,
     "attn_pdrop": 0.0, "bos_token_id": 256, "eos_token_id": 256'
t5='"model_type": "t5", "architectures": ["T5ForConditionalGeneration"], "vocab_size": 124, "d_model": 48, "d_kv": 12, "d_ff": 96, "num_heads": 4, "num_layers": 2,
    "dropout_rate": 0.0, "feed_forward_proj": "relu", "tie_word_embeddings": true, "pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0'
optimizer='"threads": 2, "seed": 3, "gradient_clipping": 1.0, "optimizer": {"type": "AdamW", "params": {"lr": 3e-3, "weight_decay": 0.01}}'

# config NAME MODEL TOKENIZER ROWS-A-STEP DATA
config() {
    printf '{"model": %s, "tokenizer": "%s", "train_batch_size": %s, %s, "data": %s}\n' "$2" "$3" "$4" "$optimizer" "$5" >"$work/$1.json"
}

# learn NAME STEPS [more arguments of train]: trains and exports.
learn() {
    name=$1 steps=$2
    shift 2
    "$train" "$work/$name.json" --output "$work/$name" --steps "$steps" "$@" >"$work/$name.log" 2>&1 ||
        { echo "FAILED $name: training"; tail -n 5 "$work/$name.log"; failed=$((failed + 1)); return 1; }
}

# pictured NAME CHART SERIES DOTS SCORE KEY FACTOR: the report of NAME's training has the task's score as a curve of so many dots a series, and the summary's KEY is
# that of the file SCORE times FACTOR.
pictured() {
    if python3 - "$work/$1/report.html" "$2" "$3" "$4" "$work/$1/summary.json" "$work/$5" "$6" "$7" <<'END'
import json, re, sys
page, chart, series, dots, summary, scores, key, factor = sys.argv[1:]
figure = next((f for f in re.findall(r"<figure>.*?</figure>", open(page).read(), re.S) if f"<figcaption>{chart}</figcaption>" in f), "")
drawn, made = json.load(open(summary)), json.load(open(scores))
lines = figure.count('class="line')
ok = [f"</i>{series}</li>" in figure, lines > 0 and figure.count("<circle") == lines * int(dots), abs(drawn["best_" + key] - float(factor) * made[key]) < 0.006]
if not all(ok):
    print(f"{ok}: {lines} lines, {figure.count('<circle')} dots, {drawn}, {made}")
sys.exit(0 if all(ok) else 1)
END
    then passed=$((passed + 1)); else failed=$((failed + 1)); echo "FAILED $1: the report's chart $2"; fi
}

# scores CONFIG MODEL FILE [arguments of dsrt evaluate]
scores() {
    to=$3 from=$1 model=$2
    shift 3
    "$dsrt" evaluate "$work/$from.json" --json --model "$model" "$@" >"$work/$to" 2>&1 || { echo "FAILED $to: scoring"; cat "$work/$to"; failed=$((failed + 1)); return 1; }
}

# check TASK FILE EXPRESSION: a Python expression about the scores.
check() {
    if python3 - "$work/$2" "$3" <<'END'
import json, sys
s = json.load(open(sys.argv[1]))
sys.exit(0 if eval(sys.argv[2]) else 1)
END
    then passed=$((passed + 1)); [ -z "${DSRT_SHOW:-}" ] || cat "$work/$2"; else failed=$((failed + 1)); echo "FAILED $1: $3: $(tr -d '\n' <"$work/$2" | cut -c 1-300)"; fi
}

# Tagging all words O has F1 0; the words of a few places and people alone would have less than all, since "new" and "smith" are parts.
ner() {
    config ner "{$bert, \"architectures\": [\"BertForTokenClassification\"], \"num_labels\": 5}" "$rows/bert-tokenizer.json" 16 \
        "{\"files\": \"$rows/ner.jsonl\", \"columns\": {\"words\": \"words\", \"tags\": {\"column\": \"tags\", \"names\": [\"O\", \"B-LOC\", \"I-LOC\", \"B-PER\", \"I-PER\"]}},
          \"split\": {\"every\": 5, \"take\": \"train\"}}"
    learn ner 60 --eval-every 20 && scores ner "$work/ner/model" ner.scores &&
        check ner ner.scores 's["loss"] < 0.2 and s["f1"] > 0.9 and s["types"]["LOC"]["support"] > 10' && pictured ner "Entities, %" "test F1" 3 ner.scores f1 100
}

# Sentences that were not trained on hold three answers each: any of them is right once in three.
qa() {
    config qa "{$bert, \"architectures\": [\"BertForQuestionAnswering\"]}" "$rows/bert-tokenizer.json" 16 \
        "{\"files\": \"$rows/qa.jsonl\", \"columns\": {\"question\": \"question\", \"context\": \"context\", \"answer\": \"answers.text\", \"answer_start\": \"answers.answer_start\"},
          \"split\": {\"every\": 5, \"take\": \"train\"}}"
    learn qa 200 --eval-every 100 && scores qa "$work/qa/model" qa.scores --predictions "$work/qa.predictions" &&
        check qa qa.scores 's["rows"] == 100 and s["loss"] < 0.3 and s["exact_match"] > 90 and s["f1"] >= s["exact_match"]' && pictured qa "Answers, %" "test exact match" 2 qa.scores f1 1
    if [ "$(grep -c '"prediction"' "$work/qa.predictions")" = 100 ]; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "FAILED qa: predictions: 100 lines are expected"; fi
}

# Numbers into French, of which every tenth was never seen. Repeating the source scores 0.
translation() {
    config translation "{$t5}" "$rows/t5-tokenizer.json" 32 \
        "{\"files\": \"$rows/translation.tsv\", \"columns\": {\"source\": \"source\", \"target\": \"target\"}, \"split\": {\"every\": 10, \"take\": \"train\"}}"
    learn translation 250 --eval-every 125 --eval-options '{"generate": {"max_new_tokens": 16}}' &&
        scores translation "$work/translation/model" translation.scores --generate '{"max_new_tokens": 16}' &&
        check translation translation.scores 's["loss"] < 0.5 and s["bleu"] > 40 and s["rows"] == 100' && pictured translation BLEU "test BLEU" 2 translation.scores bleu 1
    # The exported folder is all that is needed.
    answer=$("$dsrt" generate "$work/translation/model" "four thousand two hundred five" 2>&1)
    if [ "$answer" = "quatre mille deux cent cinq" ]; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "FAILED translation: $answer"; fi
    scores translation "$work/translation/model" beams.scores --generate '{"max_new_tokens": 16, "num_beams": 3}' && check translation beams.scores 's["bleu"] > 40'
}

# What the assistant says, of numbers that were asked for or not. Guessing all letters of these answers alike is a perplexity of about 20.
chat() {
    config chat "{$gpt}" "$source/examples/pretrain/tokenizer.json" 16 \
        "{\"files\": \"$rows/chat.jsonl\", \"task\": \"causal\", \"columns\": {\"messages\": \"messages\"}, \"split\": {\"every\": 10, \"take\": \"train\"},
          \"chat_template\": \"{% for m in messages %}{{ '# ' + m.role + ' ' + m.content + '<|endoftext|>' }}{% endfor %}{% if add_generation_prompt %}{{ '# assistant ' }}{% endif %}\"}"
    learn chat 160 --eval-every 80 && scores chat "$work/chat/model" chat.scores && check chat chat.scores 's["loss"] < 1.0 and s["perplexity"] < 2.7' &&
        pictured chat Perplexity "test perplexity" 2 chat.scores perplexity 1
}

# As many steps altogether: most on other text before, against all on the little text that counts.
pretrain() {
    data='"task": "causal", "document": "paragraph", "block_length": 64, "pack": true, "split": {"every": 4, "take": "train"}'
    config plain "{$gpt}" "$source/examples/pretrain/tokenizer.json" 8 "{\"files\": \"$rows/plain.txt\", $data}"
    config scratch "{$gpt}" "$source/examples/pretrain/tokenizer.json" 8 "{\"files\": \"$rows/tune.txt\", $data}"
    config tuned "\"$work/plain/model\"" "$source/examples/pretrain/tokenizer.json" 8 "{\"files\": \"$rows/tune.txt\", $data}"
    learn plain 160 && learn tuned 20 && learn scratch 180 && scores tuned "$work/tuned/model" tuned.scores && scores scratch "$work/scratch/model" scratch.scores || return
    base=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["perplexity"])' "$work/scratch.scores")
    check pretrain tuned.scores "s[\"perplexity\"] < 0.9 * $base"
}

# An LSTM; the more frequent class is half of the rows.
sentiment() {
    config sentiment '{"model_type": "lstm", "architectures": ["LstmForSequenceClassification"], "vocab_size": 124, "embedding_size": 32, "hidden_size": 32, "num_layers": 1, "bidirectional": true,
        "dropout": 0.1, "num_labels": 2, "pad_token_id": 0}' "$rows/bert-tokenizer.json" 16 \
        "{\"files\": \"$rows/sentiment.tsv\", \"columns\": {\"text\": 1, \"label\": 0}, \"split\": {\"every\": 5, \"take\": \"train\"}}"
    learn sentiment 120 --eval-every 60 && scores sentiment "$work/sentiment/model" sentiment.scores && check sentiment sentiment.scores 's["rows"] == 100 and s["loss"] < 0.2 and s["accuracy"] > 0.95'
}

# The tags' model made smaller, each way a line of MORE in its config: it still learns, is still right, and the exported folder has become what the way promises.
compress() {
    [ -d "$work/ner/model" ] || ner
    linear='"attention.self", "attention.output.dense", "intermediate.dense", "layer.[0-9].output.dense"'
    group() { printf '{"shared_parameters": {"enabled": true, "schedule_offset": 0, %s}, "different_groups": {"all": {"params": {%s}, "modules": [%s]%s}}}' "$1" "$2" "$3" "${4:-}"; }
    for bits in '4, nf4: "load_in_4bit": true, "bnb_4bit_use_double_quant": true' '8, integers: "load_in_8bit": true, "int8_products": true'; do
        python3 - "$work/ner.json" "$work/few.json" "{${bits#*: }}" <<'END'
import json, sys
config = json.load(open(sys.argv[1]))
del config["optimizer"]
json.dump(config | {"quantization": json.loads(sys.argv[3])}, open(sys.argv[2], "w"))
END
        scores few "$work/ner/model" few.scores && check "compress, ${bits%%:*}" few.scores 's["loss"] < 0.15 and s["f1"] > 0.9'
    done
    smaller pruned 30 '"sparse_pruning": '"$(group '"method": "l1", "block_pattern": "2:4"' '"dense_ratio": 0.5' "$linear")" \
        's["zeros"]["bert.encoder.layer.0.intermediate.dense.weight"] == 0.5 and s["zeros"]["bert.encoder.layer.1.attention.self.value.weight"] == 0.5 and s["zeros"]["bert.embeddings.word_embeddings.weight"] < 0.1'
    smaller narrow 30 '"row_pruning": '"$(group '"method": "l1"' '"dense_ratio": 0.5' '"layer.[0-9].intermediate.dense"' ', "related_modules": [["layer.[0-9].output.dense"]]')" \
        's["config"]["intermediate_size"] == 48'
    smaller rounded 30 '"weight_quantization": '"$(group '"quantize_weight_in_forward": true' '"start_bits": 8, "target_bits": 8' "$linear")"', "activation_quantization": '"$(group '"range_calibration": "dynamic"' '"bits": 8' "$linear")" \
        's["values"]["bert.encoder.layer.0.intermediate.dense.weight"] <= 255'
    smaller shallow 60 '"layer_reduction": {"enabled": true, "keep_number_layer": 1, "module_name_prefix": "bert.encoder.layer", "teacher_layer": [1], "other_module_name": ["bert.embeddings", "classifier"]},
        "knowledge_distillation": {"enabled": true, "temperature": 2.0, "alpha": 0.5}' 's["config"]["num_hidden_layers"] == 1'
}

# smaller NAME STEPS TRAINING EXPRESSION: the tags' model goes on training with this compression_training; EXPRESSION is about the exported folder.
smaller() {
    python3 - "$work/ner.json" "$work/$1.json" "$work/ner/model" "{$3}" <<'END'
import json, sys
config = json.load(open(sys.argv[1]))
json.dump(config | {"model": sys.argv[3], "compression_training": json.loads(sys.argv[4])}, open(sys.argv[2], "w"))
END
    learn "$1" "$2" && scores ner "$work/$1/model" "$1.scores" || return
    check "compress, $1" "$1.scores" 's["loss"] < 0.15 and s["f1"] > 0.9'
    python3 - "$work/$1/model" >"$work/$1.folder" <<'END'
import array, json, sys
with open(sys.argv[1] + "/model.safetensors", "rb") as file:
    header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    data, zeros, different = file.read(), {}, {}
for name, about in header.items():
    if name != "__metadata__" and about["dtype"] == "F32":
        values = array.array("f", data[slice(*about["data_offsets"])])
        zeros[name], different[name] = values.count(0.0) / len(values), len(set(values))
json.dump({"config": json.load(open(sys.argv[1] + "/config.json")), "zeros": zeros, "values": different}, sys.stdout)
END
    check "compress, $1" "$1.folder" "$4"
}

# A bad row of each task is told with file, line and column before anything is trained.
bad() {
    config ner "{$bert, \"architectures\": [\"BertForTokenClassification\"], \"num_labels\": 5}" "$rows/bert-tokenizer.json" 16 '{}'
    config qa "{$bert, \"architectures\": [\"BertForQuestionAnswering\"]}" "$rows/bert-tokenizer.json" 16 '{}'
    config sentiment "{$bert, \"architectures\": [\"BertForSequenceClassification\"], \"num_labels\": 2}" "$rows/bert-tokenizer.json" 16 '{}'
    config translation "{$t5}" "$rows/t5-tokenizer.json" 16 '{}'
    config chat "{$gpt}" "$source/examples/pretrain/tokenizer.json" 16 '{}'
    tags='"words": "words", "tags": {"column": "tags", "names": ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]}'
    refused ner unknown.jsonl 'line 2 (byte 42): column tags' "$tags" '{"words": ["a", "b"], "tags": ["O", "O"]}\n{"words": ["a", "b"], "tags": ["O", "B-XYZ"]}\n'
    refused ner fewer.jsonl 'line 1 (byte 0): column tags' "$tags" '{"words": ["a", "b"], "tags": ["O"]}\n'
    refused ner empty.jsonl 'line 1 (byte 0): column words: the list is empty' "$tags" '{"words": [], "tags": []}\n'
    refused ner mixed.jsonl 'line 3 (byte 45): found byte 0xe9' "$tags" '{"words": ["a"], "tags": ["O"]}\n\n{"words": ["\351t\351"], "tags": ["O"]}\n'
    answers='"question": "q", "context": "c", "answer": "a", "answer_start": "s"'
    refused qa outside.jsonl 'line 2 (byte 47): column answer_start' "$answers" '{"q": "x", "c": "short", "a": "short", "s": 0}\n{"q": "x", "c": "short", "a": "rt and on", "s": 3}\n'
    refused qa beside.jsonl 'line 1 (byte 0): column answer_start' "$answers" '{"q": "x", "c": "short", "a": ["ort"], "s": [1]}\n'
    refused qa nowhere.jsonl 'line 1 (byte 0): column answer: "long" is not in the context' '"question": "q", "context": "c", "answer": "a"' '{"q": "x", "c": "short", "a": "long"}\n'
    refused qa blank.jsonl 'line 1 (byte 0): column context: found an empty text' "$answers" '{"q": "x", "c": "", "a": "", "s": 0}\n'
    refused sentiment label.csv 'line 3 (byte 18): column label' '"text": "text", "label": {"column": "label", "names": ["bad", "good"]}' 'text,label\na,good\nb,fine\n'
    pairs='"source": "source", "target": "target"'
    refused translation pair.tsv 'line 3 (byte 21): column target' "$pairs" 'source\ttarget\none\tun\ntwo\t\n'
    refused translation mixed.tsv 'line 3 (byte 28): found byte 0xe9' "$pairs" 'source\ttarget\none\tun\nsummer\t\351t\351\n'
    template='"chat_template": "{% for m in messages %}{{ m.content }}{% endfor %}"'
    refused chat silent.jsonl 'line 1 (byte 0): column messages' '"messages": "messages"' '{"messages": [{"role": "user", "content": "x"}]}\n' ", \"task\": \"causal\", $template"
    refused chat empty.jsonl 'line 1 (byte 0): column messages' '"messages": "messages"' '{"messages": []}\n' ", \"task\": \"causal\", $template"
    refused chat plain.txt 'line 3 (byte 8): found byte 0xe9' '' 'summer\n\n\351t\351\n' ', "task": "causal", "document": "paragraph"'
}

# refused TASK FILE WORDS COLUMNS ROWS [MORE]: these rows, in FILE, by TASK's config.
refused() {
    printf "$5" >"$work/$2"
    columns=
    [ -z "$4" ] || columns=", \"columns\": {$4}"
    if "$dsrt" evaluate "$work/$1.json" --data "{\"files\": \"$work/$2\"$columns${6:-}}" >"$work/refusal" 2>&1; then echo "FAILED bad: $2 was accepted"; failed=$((failed + 1)); return; fi
    if grep -qF "$2: $3" "$work/refusal"; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "FAILED bad: $2: $3: $(cat "$work/refusal")"; fi
}

[ $# -gt 0 ] || set -- ner qa translation chat pretrain sentiment compress bad
for task; do
    begin=$(date +%s)
    "$task"
    echo "$task: $(($(date +%s) - begin)) s"
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
