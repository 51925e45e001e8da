#!/usr/bin/env python3
"""Runs libdsrt and PyTorch in turn on the same work and prints the table of medians and ratios. compare.sh sets everything up.

First the two must agree: from one shared folder of weights, five steps in f32, odd lengths included, losses within AGREE's bounds.
"""
import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile

ROWS = [("gpt2", 4, 64), ("gpt2", 1, 1024), ("bert", 16, 128), ("llama110m", 2, 256), ("t5small", 8, 64), ("gpt2-lora", 4, 64), ("gpt2-responses", 4, 256), ("bert-mlm", 16, 128), ("gpt2-in-backward", 4, 64)]
# What only some rows are compared with: (name, model, dtype, what the command needs). Their figures stand in lines of their own.
OTHERS = [("llm.c", "gpt2", "f32", "llmc"), ("DeepSpeed ZeRO-1", "gpt2", "bf16", "deepspeed")]
# gpt2-lora is left out: adapters begin with random numbers of each side's own. tests/train/lora.cpp holds ours to PEFT.
# Many of T5's gradients lie below AdamW's eps, which magnifies their rounding.
AGREE = [("gpt2", 2, 33, 2e-5), ("bert", 3, 21, 2e-5), ("llama110m", 2, 47, 2e-5), ("t5small", 2, 19, 1e-4), ("gpt2-responses", 3, 29, 2e-5), ("gpt2-in-backward", 2, 33, 2e-5), ("bert-mlm", 3, 23, 2e-5)]


def run(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stderr}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def agree(args, folder):
    for model, rows, length, bound in AGREE:
        if args.only and args.only != model:
            continue
        path = os.path.join(folder, model)
        subprocess.run([sys.executable, args.peer, model, "1", "8", "f32", "--save", path], check=True, capture_output=True)
        ours = run([args.bench, path, str(rows), str(length), "f32", "5"])["losses"]
        theirs = run([sys.executable, args.peer, path, str(rows), str(length), "f32", "--steps", "5"])["losses"]
        worst = max(abs(a - b) / abs(b) for a, b in zip(ours, theirs))
        print(f"agreement {model} B {rows} T {length}: largest relative difference of five losses {worst:.1e}", flush=True)
        if worst > bound:
            sys.exit(f"losses differ: {ours} and {theirs}")


def cell(results):
    times = [r["median_s"] for r in results]
    return f"{statistics.median(times):.3f} ({min(times):.3f}..{max(times):.3f})"


def compare(args, commands):
    """Runs the commands in turn, as often as asked; what each printed."""
    results = {name: [] for name in commands}
    for _ in range(args.repeats):
        for name, command in commands.items():
            results[name].append(run(command))
    return results


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bench", required=True), parser.add_argument("--peer", required=True)
    parser.add_argument("--repeats", type=int, default=5), parser.add_argument("--steps", type=int, default=8, help="of more than four the first three are not timed")
    parser.add_argument("--compile", action="store_true", help="also torch.compile"), parser.add_argument("--only", help="a model's name")
    parser.add_argument("--dtype", choices=["f32", "bf16"], help="one of them only (without AVX-512 PyTorch's bf16 step of GPT-2 takes long)")
    parser.add_argument("--llmc", help="llm.c's step, built"), parser.add_argument("--deepspeed", help="DeepSpeed's step, a script")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        agree(args, folder)
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), platform.processor())
    print(f"\n{cpu}, {os.cpu_count()} processors; seconds a step: median of {args.repeats} alternating runs' medians (min..max)\n")
    print("| step | libdsrt | PyTorch eager | ratio | " + ("PyTorch compile | ratio | " if args.compile else "") + "peak memory, MiB | ratio |")
    print("|---|---|---|---|---|---|" + ("---|---|" if args.compile else ""))
    for model, rows, length in ROWS:
        if args.only and args.only != model:
            continue
        for dtype in [args.dtype] if args.dtype else ["f32", "bf16"]:
            shape = [str(rows), str(length), dtype]
            commands = {"ours": [args.bench, model, *shape, str(args.steps)], "eager": [sys.executable, args.peer, model, *shape, "--steps", str(args.steps)]}
            if args.compile:
                commands["compile"] = commands["eager"] + ["--compile"]
            results = compare(args, commands)
            median = {name: statistics.median(r["median_s"] for r in list_) for name, list_ in results.items()}
            peak = {name: statistics.median(r["peak_rss_mib"] for r in list_) for name, list_ in results.items()}
            line = f"| {model} B {rows} T {length} {dtype} | {cell(results['ours'])} | {cell(results['eager'])} | {median['eager'] / median['ours']:.2f} | "
            if args.compile:
                line += f"{cell(results['compile'])} | {median['compile'] / median['ours']:.2f} | "
            print(line + f"{peak['ours']:.0f}, {peak['eager']:.0f} | {peak['ours'] / peak['eager']:.2f} |", flush=True)
    others(args)


def others(args):
    rows, length = "4", "64"
    programs = {"llmc": args.llmc and [args.llmc, rows, length, str(args.steps)],
                "deepspeed": args.deepspeed and [sys.executable, args.deepspeed, "gpt2", rows, length, "bf16", "--steps", str(args.steps)]}
    asked = [other for other in OTHERS if programs[other[3]]]
    if asked:
        print("\n| step | libdsrt | other | ratio | peak memory, MiB |\n|---|---|---|---|---|")
    for name, model, dtype, program in asked:
        results = compare(args, {"ours": [args.bench, model, rows, length, dtype, str(args.steps)], "other": programs[program]})
        ours, other = (statistics.median(r["median_s"] for r in results[who]) for who in ("ours", "other"))
        peaks = [f"{statistics.median(r['peak_rss_mib'] for r in results[who]):.0f}" for who in ("ours", "other")]
        print(f"| {model} B {rows} T {length} {dtype}, {name} | {cell(results['ours'])} | {cell(results['other'])} | {other / ours:.2f} | {', '.join(peaks)} |", flush=True)


if __name__ == "__main__":
    main()
