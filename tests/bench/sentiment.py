#!/usr/bin/env python3
"""The quickstart's epoch by libdsrt and by PyTorch in turn, a seed a round: seconds and test accuracy. sentiment.sh sets everything up."""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile


def ours(args, dtype, seed):
    with tempfile.TemporaryDirectory() as folder:
        command = [args.train, "examples/sentiment/config.json", "--output", folder, "--no-export", "--add", f"seed={seed}"]
        if dtype == "bf16":
            command += ["--add", 'bf16={"enabled": true}']
        run(command)
        return json.load(open(os.path.join(folder, "summary.json")))


def theirs(args, dtype, seed, grouped):
    command = [sys.executable, args.peer, "examples/work/minilm", "examples/work/reviews.tsv", "--seed", str(seed)]
    return json.loads(run(command + ["--bf16"] * (dtype == "bf16") + ["--group-by-length"] * grouped).splitlines()[-1])


def run(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout}\n{done.stderr}")
    return done.stdout.strip()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--train", required=True), parser.add_argument("--peer", required=True)
    parser.add_argument("--seeds", type=int, default=3), parser.add_argument("--only", choices=("f32", "bf16"))
    args = parser.parse_args()
    print("| MiniLM, 9,545 reviews, 1 epoch | seconds, median (min..max) | accuracy %, mean (each) | PyTorch's time / ours |")
    print("|---|---|---|---|")
    for dtype in (args.only,) if args.only else ("bf16", "f32"):
        work = {
            f"libdsrt {dtype}": lambda seed: ours(args, dtype, seed),
            f"PyTorch {dtype}": lambda seed: theirs(args, dtype, seed, False),
            f"PyTorch {dtype}, grouped by length": lambda seed: theirs(args, dtype, seed, True),
        }
        results = {name: [] for name in work}
        for seed in range(1, args.seeds + 1):
            for name, once in work.items():
                results[name].append(once(seed))
        base = None
        for name, list_ in results.items():
            seconds, accuracy = [r["train_seconds"] for r in list_], [r["accuracy"] for r in list_]
            median = statistics.median(seconds)
            base = base or median
            each = ", ".join(f"{a:.2f}" for a in accuracy)
            print(f"| {name} | {median:.1f} ({min(seconds):.1f}..{max(seconds):.1f}) | {statistics.mean(accuracy):.2f} ({each}) | {median / base:.2f} |", flush=True)


if __name__ == "__main__":
    main()
