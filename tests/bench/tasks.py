"""Times and scores the tasks of examples/tasks beside plain PyTorch: one table, a row a task. tasks.sh fetches what it needs.

The peer reads the same config: the same rows, split, length, batch size, optimizer, schedule, clipping and precision (bf16 by autocast). It shuffles by torch's
generator, so the two see rows in other orders; scores are compared over seeds. Both sides' predictions are scored by the same code (dsrt's, held against seqeval,
SQuAD and sacrebleu by tests/unit/metrics.cpp).
"""
import argparse
import fnmatch
import json
import math
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parents[1] / "transformers"), str(pathlib.Path(__file__).resolve().parent / "peers")]
os.environ.setdefault("DSRT_LIBRARY", os.path.abspath("build/release/libdsrt.so"))

import torch
import transformers

from batches import batches_of

TASKS = pathlib.Path("examples/tasks")
CORES = len(os.sched_getaffinity(0))
# Of each task: the score that counts, and what is trained one after the other: a config, epochs, or steps. A later one goes on from the one before it.
ROWS = {"ner": ("f1", ("ner/config.json", 3, 0)), "qa": ("f1", ("qa/config.json", 0, 360)), "translation": ("bleu", ("translation/config.json", 0, 2000)),
        "chat": ("perplexity", ("chat/config.json", 0, 600)),
        "pretrain-finetune": ("perplexity", ("pretrain-finetune/pretrain.json", 0, 2400), ("pretrain-finetune/config.json", 0, 100)),
        "sentiment-lstm": ("accuracy", ("sentiment-lstm/config.json", 3, 0))}


def dsrt(stages, out, scored):
    """(seconds of training, scores)"""
    seconds, model = 0, None
    for i, (config, epochs, steps) in enumerate(stages):
        more = ["--steps", str(steps)] if steps else ["--epochs", str(epochs)]
        folder = pathlib.Path(out) / str(i)
        folder.mkdir()
        file = folder / "config.json"
        config = {**config, **({"model": model} if model else {})}
        if not scored:  # no split, no test
            config = {**config, "data": {k: v for k, v in config["data"].items() if k != "split"}}
        file.write_text(json.dumps(config))
        made = subprocess.run(["build/release/examples/train", str(file), "--output", str(folder), *more], capture_output=True, text=True)
        if made.returncode:
            sys.exit(made.stderr)
        seconds += json.loads((folder / "summary.json").read_text())["train_seconds"]
        model = f"{folder}/model"
    if not scored:
        return seconds, None
    made = subprocess.run(["build/release/bindings/cli/dsrt", "evaluate", str(file), "--json", "--model", model, "--generate", '{"max_new_tokens": 60}'], capture_output=True, text=True)
    if made.returncode:
        sys.exit(made.stderr)
    return seconds, json.loads(made.stdout)


class Lstm(torch.nn.Module):
    """lib/models/lstm.cpp, by torch's own layers."""

    def __init__(self, c):
        super().__init__()
        ways = 2 if c["bidirectional"] else 1
        self.config = argparse.Namespace(pad_token_id=c["pad_token_id"])
        self.embedding = torch.nn.Embedding(c["vocab_size"], c["embedding_size"], padding_idx=c["pad_token_id"])
        self.lstm = torch.nn.LSTM(c["embedding_size"], c["hidden_size"], c["num_layers"], batch_first=True, bidirectional=ways == 2)
        self.classifier = torch.nn.Linear(ways * c["hidden_size"], c["num_labels"])
        self.dropout = torch.nn.Dropout(c["dropout"])

    def forward(self, input_ids, attention_mask, labels, token_type_ids=None):
        x = torch.nn.utils.rnn.pack_padded_sequence(self.dropout(self.embedding(input_ids)), attention_mask.sum(1), batch_first=True, enforce_sorted=False)
        ends = self.lstm(x)[1][0]
        logits = self.classifier(self.dropout(torch.cat(list(ends[-2:] if self.lstm.bidirectional else ends[-1:]), 1)))
        return argparse.Namespace(logits=logits, loss=torch.nn.functional.cross_entropy(logits, labels))


class Peer:
    """The same config by transformers and torch."""

    def __init__(self, config, bf16, trained=None, grouped=False):
        self.config, self.bf16, self.grouped = config, bf16, grouped
        data, model = config["data"], config["model"]
        every = data["split"]["every"]
        overrides = config.get("model_overrides", {})
        folder = model if isinstance(model, str) else None
        self.model = trained or self.make(folder, model, overrides)
        path = config.get("tokenizer") or folder
        self.tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=path) if path.endswith(".json") else transformers.AutoTokenizer.from_pretrained(path)
        self.length = config.get("max_seq_length", 0)
        rows = self.read(data)
        self.train = [r for i, r in enumerate(rows) if (i + 1) % every]
        self.test = [r for i, r in enumerate(rows) if (i + 1) % every == 0]

    def make(self, folder, model, overrides):
        if not folder and model["model_type"] == "lstm":
            return Lstm(model)
        made = transformers.AutoConfig.from_pretrained(folder) if folder else transformers.AutoConfig.for_model(**model)
        for key, value in overrides.items():
            setattr(made, key, value)
        kind = getattr(transformers, (overrides.get("architectures") or made.architectures or model["architectures"])[0])
        return kind.from_pretrained(folder, config=made) if folder else kind(made)

    def read(self, data):
        text = pathlib.Path(data["files"]).read_text(encoding="utf-8", errors="replace")
        columns = data.get("columns", {})
        lines = text.rstrip("\n").split("\n")
        if "words" in columns:
            self.names = columns["tags"]["names"]
            return [self.tags(json.loads(line)) for line in lines]
        if "question" in columns:
            return [self.span(json.loads(line)) for line in lines]
        if "source" in columns:
            return [self.pair(*line.split("\t")) for line in lines[1:]]
        if "messages" in columns:
            return [self.talk(json.loads(line)["messages"]) for line in lines]
        if "label" in columns:
            fields = [line.split("\t") for line in lines]
            cut = lambda text: self.tokenizer(text, truncation=True, max_length=self.length)["input_ids"]
            return [{"input_ids": cut(f[columns["text"]]), "class": int(float(f[columns["label"]["column"]]) > columns["label"]["greater_than"])} for f in fields]
        return [p for p in text.split("\n\n") if p.strip()]  # cut into blocks when all are known

    def tags(self, row):
        x = self.tokenizer(row["words"], is_split_into_words=True, truncation=True, max_length=self.length)
        labels, before = [], None
        for word in x.word_ids():
            labels.append(-100 if word is None or word == before else self.names.index(row["tags"][word]))
            before = word
        return {"input_ids": x["input_ids"], "labels": labels}

    def span(self, row):
        x = self.tokenizer(row["question"], row["context"], truncation="only_second", max_length=self.length, return_offsets_mapping=True)
        begin = row["answers"]["answer_start"][0]
        end = begin + len(row["answers"]["text"][0])
        inside = [i for i, s in enumerate(x.sequence_ids()) if s == 1]
        first = max((i for i in inside if x["offset_mapping"][i][0] <= begin), default=0)
        last = min((i for i in inside if x["offset_mapping"][i][1] >= end), default=0)
        return {"input_ids": x["input_ids"], "token_type_ids": x["token_type_ids"], "start_positions": first, "end_positions": last,
                "offsets": [o if s == 1 else None for o, s in zip(x["offset_mapping"], x.sequence_ids())], "context": row["context"], "answers": row["answers"]["text"]}

    def pair(self, source, target):
        cut = lambda text: self.tokenizer(text, truncation=True, max_length=self.length)["input_ids"]
        return {"input_ids": cut(source), "labels": cut(target), "target": target}

    def talk(self, messages):
        ids, labels = [], []
        for m in messages:  # the template of chat/config.json
            head, said = [self.tokenizer(t, add_special_tokens=False)["input_ids"] for t in (f"### {m['role']}\n", m["content"] + "<|endoftext|>\n")]
            ids += head + said
            labels += [-100] * len(head) + (said if m["role"] == "assistant" else [-100] * len(said))
        return {"input_ids": ids[: self.length], "labels": labels[: self.length]}

    def blocks(self, paragraphs):
        size = self.config["data"]["block_length"]
        ids = [i for p in paragraphs for i in self.tokenizer(p, add_special_tokens=False)["input_ids"] + [self.model.config.eos_token_id]]
        return [{"input_ids": ids[i:i + size], "labels": ids[i:i + size]} for i in range(0, len(ids), size) if len(ids[i:i + size]) > 1]

    def batch(self, rows):
        pad = self.tokenizer.pad_token_id or self.model.config.pad_token_id or 0
        filled = lambda name, with_: torch.tensor([r[name] + [with_] * (max(len(q[name]) for q in rows) - len(r[name])) for r in rows])
        out = {"input_ids": filled("input_ids", pad)}
        out["attention_mask"] = torch.tensor([[1] * len(r["input_ids"]) + [0] * (out["input_ids"].shape[1] - len(r["input_ids"])) for r in rows])
        if "labels" in rows[0]:
            out["labels"] = filled("labels", -100)
        if "class" in rows[0]:
            out["labels"] = torch.tensor([r["class"] for r in rows])
        if "token_type_ids" in rows[0]:
            out["token_type_ids"] = filled("token_type_ids", 0)
        for name in ("start_positions", "end_positions"):
            if name in rows[0]:
                out[name] = torch.tensor([r[name] for r in rows])
        return out

    def rate(self, steps):
        """The schedule's share of lr before each step, as DeepSpeed has it."""
        s = self.config["scheduler"]
        if s["type"] == "LinearLR":
            return lambda step: max(0.0, 1 - step / s["params"]["total_iters"])
        total, warm = s["params"]["total_num_steps"], s["params"]["warmup_num_steps"]
        begin = (lambda step: step / warm) if s["params"].get("warmup_type", "log") == "linear" else (lambda step: math.log(step + 1) / math.log(max(2, warm)))
        if s["type"] == "WarmupDecayLR":  # rises to a rate of its own, not to the optimizer's
            most = s["params"].get("warmup_max_lr", 0.001) / self.config["optimizer"]["params"]["lr"]
            return lambda step: most * (begin(step) if step < warm else max(0.0, (total - step) / (total - warm)))
        end = {"WarmupCosineLR": lambda step: 1e-4 + (1 - 1e-4) * 0.5 * (1 + math.cos(math.pi * min(1, (step - warm + 1) / (total - warm))))}[s["type"]]
        return lambda step: begin(step) if step < warm else end(step)

    def run(self, epochs, steps):
        if isinstance(self.train[0], str):
            self.train, self.test = self.blocks(self.train), self.blocks(self.test)
        size, p = self.config["train_batch_size"], self.config["optimizer"]["params"]
        steps = steps or epochs * -(-len(self.train) // size)
        for group in self.config.get("param_groups", []):
            for n, weight in self.model.named_parameters():
                if group.get("frozen") and any(fnmatch.fnmatchcase(n, pattern) for pattern in group["match"]):
                    weight.requires_grad = False
        optimizer = torch.optim.AdamW([w for w in self.model.parameters() if w.requires_grad], lr=p["lr"], betas=p.get("betas", (0.9, 0.999)), weight_decay=p["weight_decay"], fused=True)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self.rate(steps))
        self.model.train()
        begin, done = time.time(), 0
        while done < steps:
            for rows in batches_of([len(r["input_ids"]) + len(r.get("labels", [])) for r in self.train], size, self.grouped):
                x = self.batch([self.train[i] for i in rows])
                with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.bf16):
                    loss = self.model(**x).loss
                loss.backward()
                torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config["gradient_clipping"])
                optimizer.step()
                optimizer.zero_grad()
                schedule.step()
                done += 1
                if done == steps:
                    break
        return time.time() - begin

    @torch.no_grad()
    def score(self):
        self.model.eval()
        made, there, loss, weight, right = [], [], 0.0, 0, 0
        for at in range(0, len(self.test), 32):
            rows = self.test[at:at + 32]
            x = self.batch(rows)
            if "class" in rows[0]:
                right += (self.model(**x).logits.argmax(-1) == x["labels"]).sum().item()
            elif "offsets" in rows[0]:
                out = self.model(**x)
                for r, start, end in zip(rows, out.start_logits, out.end_logits):
                    made.append(best_span(r, start, end))
                    there.append(r["answers"])
            elif "target" in rows[0]:
                ids = self.model.generate(x["input_ids"], attention_mask=x["attention_mask"], max_new_tokens=60, do_sample=False)
                made += [self.tokenizer.decode(i, skip_special_tokens=True) for i in ids]
                there += [r["target"] for r in rows]
            elif hasattr(self, "names"):
                for r, best in zip(rows, self.model(**x).logits.argmax(-1).tolist()):
                    kept = [i for i, label in enumerate(r["labels"]) if label != -100]
                    made.append([self.names[best[i]] for i in kept])
                    there.append([self.names[r["labels"][i]] for i in kept])
            else:
                count = (x["labels"][:, 1:] != -100).sum().item()
                loss += self.model(**x).loss.item() * count
                weight += count
        if "class" in self.test[0]:
            return {"accuracy": right / len(self.test)}
        if weight:
            return {"perplexity": float(torch.tensor(loss / weight).exp())}
        metric = "spans" if hasattr(self, "names") else "squad" if isinstance(there[0], list) else "bleu"
        return score(metric, made, there)


def best_span(row, start, end, most=30):
    start, end, best = start.tolist(), end.tolist(), (-1e30, 0, 0)
    for i, a in enumerate(row["offsets"]):
        for j in range(i, min(i + most, len(row["offsets"]))):
            if a and row["offsets"][j] and start[i] + end[j] > best[0]:
                best = (start[i] + end[j], a[0], row["offsets"][j][1])
    return row["context"][best[1]:best[2]]


def score(metric, made, there):
    import ctypes as C

    import dsrt as library
    out = C.c_char_p()
    library.call("ds_score", metric.encode(), json.dumps(made).encode(), json.dumps(there).encode(), C.byref(out))
    return json.loads(out.value)


def peer(stages, seed, scored, grouped):
    """(seconds of training, scores)"""
    torch.manual_seed(seed)
    seconds, model = 0, None
    for config, epochs, steps in stages:
        side = Peer(config, config["bf16"]["enabled"], model, grouped)
        seconds += side.run(epochs, steps)
        model = side.model
    return seconds, side.score() if scored else None


def shorter(config, share):
    """The config with a schedule of a share of its steps."""
    schedule = config["scheduler"]
    return config | {"scheduler": schedule | {"params": {k: round(v * share) if k in ("total_iters", "total_num_steps", "warmup_num_steps") else v for k, v in schedule["params"].items()}}}


def once(kept, what, train):
    """(seconds, scores) of a training, told when it is done: they take minutes. With a file to keep them in, one that this machine has done is not done again."""
    what |= {"processor": re.search("(?m)^model name.*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())[1], "cores": CORES}
    for line in kept.read_text().splitlines() if kept and kept.exists() else []:
        done = json.loads(line)
        if done["what"] == what:
            return done["seconds"], done["scores"]
    seconds, scores = train()
    if kept:
        with kept.open("a") as file:
            file.write(json.dumps({"what": what, "seconds": seconds, "scores": scores}) + "\n")
    print(f"{what['task']}, seed {what['seed']}, {what['side']}: {seconds:.1f} s", scores or "", file=sys.stderr, flush=True)
    return seconds, scores


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--only", choices=ROWS)
    arguments.add_argument("--seeds", type=int, default=3)
    arguments.add_argument("--steps", type=int, default=0, help="so many steps of each training, timed and not scored")
    arguments.add_argument("--share", type=float, default=1, help="trains for this share of a recipe's steps, its schedule with them; not for what is counted in epochs")
    arguments.add_argument("--dtype", choices=["f32", "bf16"], help="of both sides; left out: bf16 where the processor has products for it")
    arguments.add_argument("--grouped", action="store_true", help="PyTorch's batches hold rows of like length, which is less padding")
    arguments.add_argument("--keep", type=pathlib.Path, help="a file of trainings that are done: what it holds is not run again, what is run is added to it")
    a = arguments.parse_args()
    if a.share != 1 and any(epochs for task in ([a.only] if a.only else ROWS) for _, epochs, _ in ROWS[task][1:]):
        arguments.error("--share: this task's training is counted in epochs")
    torch.set_num_threads(CORES)
    bf16 = a.dtype == "bf16" if a.dtype else "avx512_bf16" in pathlib.Path("/proc/cpuinfo").read_text()
    print("| task | score | libdsrt | PyTorch | seconds, libdsrt | PyTorch | ratio |\n|---|---|---|---|---|---|---|")
    for task in [a.only] if a.only else ROWS:
        name, *stages = ROWS[task]
        ours, theirs = [], []
        for seed in range(1, a.seeds + 1):
            todo = []
            for file, epochs, steps in stages:
                config = json.loads((TASKS / file).read_text())
                config |= {"seed": seed, "bf16": {"enabled": bf16 and task != "sentiment-lstm"}}  # torch's LSTM is made for f32
                todo.append((shorter(config, a.share), 0 if a.steps else epochs, a.steps or round(steps * a.share)))
            what = {"task": task, "seed": seed, "bf16": bf16, "steps": a.steps, "share": a.share}
            with tempfile.TemporaryDirectory() as out:
                ours.append(once(a.keep, what | {"side": "libdsrt"}, lambda: dsrt(todo, out, not a.steps)))
            theirs.append(once(a.keep, what | {"side": "PyTorch"} | ({"grouped": True} if a.grouped else {}), lambda: peer(todo, seed, not a.steps, a.grouped)))
        spread = lambda side: "" if a.steps else f"{statistics.mean(s[name] for _, s in side):.3f} ± {statistics.stdev(s[name] for _, s in side) if len(side) > 1 else 0:.3f}"
        fast, slow = (statistics.median(s for s, _ in side) for side in (ours, theirs))
        print(f"| {task} | {name} | {spread(ours)} | {spread(theirs)} | {fast:.1f} | {slow:.1f} | {slow / fast:.2f} |", flush=True)


if __name__ == "__main__":
    main()
