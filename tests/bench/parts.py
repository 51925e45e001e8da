#!/usr/bin/env python3
"""The rows of the table that are not whole steps: update, dispatch, start, checkpoint, tokenizer, attention, size. parts.sh sets everything up."""
import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time

import tokenizers
import torch
import transformers


def run(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stderr}")
    return done.stdout


def last(command):
    return json.loads(run(command).strip().splitlines()[-1])


def best(repeats, once, key):
    return min((once() for _ in range(repeats)), key=lambda r: r[key])


def row(what, ours, against, ratio, must):
    print(f"| {what} | {ours} | {against} | {ratio:.2f} | {must} |", flush=True)


def update(args, triad):
    r = best(args.repeats, lambda: last([args.step, "gpt2", "1", "16", "f32", "8"]), "update_s")
    rate = 28e-9 * r["parameters"] / r["update_s"]
    row("AdamW, 124M, 28 B a parameter / triad", f"{rate:.1f} GB/s", f"{triad:.1f} GB/s", rate / triad, "0.85")


def dispatch(args):
    ns = best(args.repeats, lambda: last([args.parts, "dispatch"]), "dispatch_ns")["dispatch_ns"]
    row("one empty kernel call", f"{ns:.0f} ns", "300 ns", 300 / ns, "1")


def start(args, folder):
    path = os.path.join(folder, "gpt2")
    transformers.GPT2LMHeadModel(transformers.GPT2Config()).save_pretrained(path)
    s = best(args.repeats, lambda: last([args.parts, "create", path]), "to_first_step_s")["to_first_step_s"]
    row("engine from a folder to the end of the first step, 124M", f"{s:.2f} s", "1 s", 1 / s, "1")


def checkpoint(args, folder):
    r = last([args.parts, "checkpoint", os.path.join(folder, "checkpoints")])
    row(f"checkpoint of {r['bytes'] / 2**30:.2f} GiB: save / raw write", f"{r['save_s']:.2f} s", f"{r['raw_write_s']:.2f} s", r["raw_write_s"] / r["save_s"], "0.8")
    row("checkpoint: load / raw read", f"{r['load_s']:.2f} s", f"{r['raw_read_s']:.2f} s", r["raw_read_s"] / r["load_s"], "0.85")


def tokenizer(args, folder):
    text = os.path.join(folder, "text")
    sources = sorted(os.path.join(d, f) for d, _, files in os.walk(".") for f in files if f.endswith((".cpp", ".md", ".py")) and "build" not in d)
    with open(text, "w", encoding="utf-8") as out:
        for source in sources:
            out.write(open(source, encoding="utf-8").read())
    for name in ("gpt2", "bert", "llama3", "unigram"):
        path = os.path.join("tests/data/tokenizers", name, "tokenizer.json")
        if not os.path.exists(path):
            continue
        ours = best(args.repeats, lambda: last([args.parts, "tokenizer", path, text]), "seconds")
        peer = tokenizers.Tokenizer.from_file(path)
        lines, seconds = open(text, encoding="utf-8").read().splitlines(keepends=True), []
        for _ in range(args.repeats):
            begin = time.perf_counter()
            tokens = sum(len(peer.encode(line, add_special_tokens=False).ids) for line in lines)
            seconds.append(time.perf_counter() - begin)
        if tokens != ours["tokens"]:
            sys.exit(f"{name}: {ours['tokens']} tokens, but {tokens} by tokenizers")
        row(f"tokenizer {name}, {ours['bytes'] / 1e6:.1f} MB, one thread", f"{ours['bytes'] / ours['seconds'] / 1e6:.1f} MB/s", f"{ours['bytes'] / min(seconds) / 1e6:.1f} MB/s",
            min(seconds) / ours["seconds"], "3")


def attention(args):
    out = run([args.kernels, str(torch.get_num_threads()), "attention"])
    for dtype, kind in (("f32", torch.float32), ("bf16", torch.bfloat16)):
        found = re.search(rf"^{dtype} +1 x 1024, 12 x 64, causal +([0-9.]+) ms .*? % +([0-9.]+) ms", out, re.M)
        q, k, v = (torch.randn(1, 12, 1024, 64, dtype=kind, requires_grad=True) for _ in range(3))
        forward, backward = [], []
        for _ in range(20):
            begin = time.perf_counter()
            y = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            forward.append(time.perf_counter() - begin)
            begin = time.perf_counter()
            y.backward(torch.ones_like(y))
            backward.append(time.perf_counter() - begin)
        for name, ours, theirs, must in (("forward", found[1], forward, "1"), ("backward", found[2], backward, "1.5")):
            row(f"attention {name}, T 1024, 12 x 64, causal, {dtype}, against torch's SDPA", f"{float(ours):.2f} ms", f"{1e3 * min(theirs):.2f} ms", 1e3 * min(theirs) / float(ours), must)


def size(args, folder):
    stripped = os.path.join(folder, "stripped.so")
    subprocess.run(["strip", "-o", stripped, args.library], check=True)
    mb = os.path.getsize(stripped) / 1e6
    row("libdsrt.so, stripped", f"{mb:.1f} MB", "12 MB", 12 / mb, "1")


def main():
    parser = argparse.ArgumentParser()
    for name in ("step", "parts", "kernels", "library"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--repeats", type=int, default=5), parser.add_argument("--only")
    args = parser.parse_args()
    triad = float(re.search(r"triad ([0-9.]+) GB/s", run([args.kernels, str(torch.get_num_threads()), "none"]))[1])
    print("| what | libdsrt | against | ratio | must |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(dir="build") as folder:
        os.mkdir(os.path.join(folder, "checkpoints"))
        parts = {"update": lambda: update(args, triad), "dispatch": lambda: dispatch(args), "start": lambda: start(args, folder), "checkpoint": lambda: checkpoint(args, folder),
                 "tokenizer": lambda: tokenizer(args, folder), "attention": lambda: attention(args), "size": lambda: size(args, folder)}
        for name, part in parts.items():
            if args.only in (None, name):
                part()


if __name__ == "__main__":
    main()
