"""Times and scores the tasks of examples/tasks beside plain PyTorch: one table, a row a task. tasks.sh fetches what it needs.

The peer reads the same config: the same rows, split, length, batch size, optimizer, schedule, clipping and precision (bf16 by autocast). It shuffles by torch's
generator, so the two see rows in other orders; scores are compared over seeds. Both sides' predictions are scored by the same code (dsrt's, held against seqeval,
SQuAD and sacrebleu by tests/unit/metrics.cpp).
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "transformers"))
os.environ.setdefault("DSRT_LIBRARY", os.path.abspath("build/release/libdsrt.so"))

import torch
import transformers

TASKS = pathlib.Path("examples/tasks")
# Of each task: its config, how many steps (0: epochs), the score that counts.
ROWS = {"ner": ("ner/config.json", 3, 0, "f1"), "qa": ("qa/config.json", 3, 0, "exact_match"), "translation": ("translation/config.json", 0, 1500, "bleu"),
        "pretrain": ("pretrain-finetune/pretrain.json", 0, 600, "perplexity"), "chat": ("chat/config.json", 0, 300, "perplexity")}


def dsrt(config, out, steps, precision):
    """(seconds of training, scores)"""
    epochs, steps = steps
    more = ["--steps", str(steps)] if steps else ["--epochs", str(epochs)]
    file = pathlib.Path(out) / "config.json"
    file.write_text(json.dumps({**config, **precision}))
    subprocess.run(["build/release/examples/train", str(file), "--output", str(out), *more], check=True, stdout=subprocess.DEVNULL)
    seconds = json.loads((pathlib.Path(out) / "summary.json").read_text())["train_seconds"]
    made = subprocess.run(["build/release/bindings/cli/dsrt", "evaluate", str(file), "--json", "--model", f"{out}/model", "--generate", '{"max_new_tokens": 60}'], check=True, capture_output=True)
    return seconds, json.loads(made.stdout)


class Peer:
    """The same config by transformers and torch."""

    def __init__(self, config, seed, bf16):
        self.config, self.bf16 = config, bf16
        torch.manual_seed(seed)
        data, model = config["data"], config["model"]
        every = data["split"]["every"]
        overrides = config.get("model_overrides", {})
        folder = model if isinstance(model, str) else None
        made = transformers.AutoConfig.from_pretrained(folder) if folder else transformers.AutoConfig.for_model(**model)
        for key, value in overrides.items():
            setattr(made, key, value)
        name = (overrides.get("architectures") or made.architectures or model["architectures"])[0]
        kind = getattr(transformers, name)
        self.model = kind.from_pretrained(folder, config=made) if folder else kind(made)
        path = config.get("tokenizer") or folder
        self.tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=path) if path.endswith(".json") else transformers.AutoTokenizer.from_pretrained(path)
        self.length = config.get("max_seq_length", 0)
        rows = self.read(data)
        self.train = [r for i, r in enumerate(rows) if (i + 1) % every]
        self.test = [r for i, r in enumerate(rows) if (i + 1) % every == 0]

    def read(self, data):
        text = pathlib.Path(data["files"]).read_text(encoding="utf-8", errors="replace")
        columns = data.get("columns", {})
        if "words" in columns:
            self.names = columns["tags"]["names"]
            return [self.tags(json.loads(line)) for line in text.splitlines()]
        if "question" in columns:
            return [self.span(json.loads(line)) for line in text.splitlines()]
        if "source" in columns:
            return [self.pair(*line.split("\t")) for line in text.splitlines()[1:]]
        if "messages" in columns:
            return [self.talk(json.loads(line)["messages"]) for line in text.splitlines()]
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
        ids = [i for p in paragraphs for i in self.tokenizer(p, add_special_tokens=False)["input_ids"] + [256]]
        return [{"input_ids": ids[i:i + size], "labels": ids[i:i + size]} for i in range(0, len(ids), size) if len(ids[i:i + size]) > 1]

    def batch(self, rows):
        pad = self.tokenizer.pad_token_id or self.model.config.pad_token_id or 0
        filled = lambda name, with_: torch.tensor([r[name] + [with_] * (max(len(q[name]) for q in rows) - len(r[name])) for r in rows])
        out = {"input_ids": filled("input_ids", pad)}
        out["attention_mask"] = torch.tensor([[1] * len(r["input_ids"]) + [0] * (out["input_ids"].shape[1] - len(r["input_ids"])) for r in rows])
        if "labels" in rows[0]:
            out["labels"] = filled("labels", -100)
        if "token_type_ids" in rows[0]:
            out["token_type_ids"] = filled("token_type_ids", 0)
        for name in ("start_positions", "end_positions"):
            if name in rows[0]:
                out[name] = torch.tensor([r[name] for r in rows])
        return out

    def rate(self, steps):
        s = self.config["scheduler"]
        if s["type"] == "LinearLR":
            return lambda step: max(0.0, 1 - step / s["params"]["total_iters"])
        import math
        total, warm = s["params"]["total_num_steps"], s["params"]["warmup_num_steps"]
        return lambda step: step / warm if step < warm else 0.5 * (1 + math.cos(math.pi * min(1, (step - warm) / (total - warm))))

    def run(self, epochs, steps):
        if isinstance(self.train[0], str):
            self.train, self.test = self.blocks(self.train), self.blocks(self.test)
        size, p = self.config["train_batch_size"], self.config["optimizer"]["params"]
        steps = steps or epochs * -(-len(self.train) // size)
        optimizer = torch.optim.AdamW(self.model.parameters(), lr=p["lr"], betas=p.get("betas", (0.9, 0.999)), weight_decay=p["weight_decay"], fused=True)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self.rate(steps))
        self.model.train()
        begin, done = time.time(), 0
        while done < steps:
            order = torch.randperm(len(self.train)).tolist()
            for at in range(0, len(order), size):
                x = self.batch([self.train[i] for i in order[at:at + size]])
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
        made, there, loss, weight = [], [], 0.0, 0
        for at in range(0, len(self.test), 32):
            rows = self.test[at:at + 32]
            x = self.batch(rows)
            if "offsets" in rows[0]:
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


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--only", choices=ROWS)
    arguments.add_argument("--seeds", type=int, default=3)
    arguments.add_argument("--steps", type=int, default=0)
    a = arguments.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    bf16 = "avx512_bf16" in pathlib.Path("/proc/cpuinfo").read_text()
    print("| task | score | libdsrt | PyTorch | seconds, libdsrt | PyTorch | ratio |\n|---|---|---|---|---|---|---|")
    for task in [a.only] if a.only else ROWS:
        file, epochs, steps, name = ROWS[task]
        config = json.loads((TASKS / file).read_text())
        if a.steps:
            epochs, steps = 0, a.steps
        ours, theirs = [], []
        for seed in range(1, a.seeds + 1):
            with tempfile.TemporaryDirectory() as out:
                ours.append(dsrt({**config, "seed": seed}, out, (epochs, steps), {"bf16": {"enabled": bf16}}))
            peer = Peer(config, seed, bf16)
            seconds = peer.run(epochs, steps)
            theirs.append((seconds, peer.score()))
        mine, other = ([s[name] for _, s in side] for side in (ours, theirs))
        spread = lambda x: f"{statistics.mean(x):.3f} ± {statistics.stdev(x) if len(x) > 1 else 0:.3f}"
        fast, slow = (statistics.median(s for s, _ in side) for side in (ours, theirs))
        print(f"| {task} | {name} | {spread(mine)} | {spread(other)} | {fast:.1f} | {slow:.1f} | {slow / fast:.2f} |", flush=True)


if __name__ == "__main__":
    main()
