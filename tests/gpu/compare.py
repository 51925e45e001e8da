#!/usr/bin/env python3
"""Times libdsrt's bench_step on the GPU, beside PyTorch eager and compiled where torch is, and prints the table for RESULTS.md. run.sh calls it."""
import argparse
import json
import os
import subprocess
import sys
import time

# The last: more of libdsrt's config. PyTorch's row is the same without it.
ROWS = [("gpt2", 8, 1024, "bf16", ""), ("gpt2", 8, 1024, "f32", ""), ("gpt2", 32, 128, "bf16", ""), ("gpt2", 8, 1024, "bf16", '"fp8": {"enabled": true}')]
PEAK_TFLOPS = {"B200": 2250, "H200": 989, "H100": 989, "A100": 312}  # of dense bf16 products, from NVIDIA's data sheets (SXM); fp8 is held against the same
GPT2_FLOPS_A_TOKEN = 6 * 124.4e6  # of the products; attention comes on top


# Of PyTorch's processes: not the bundle's libraries, which may be older than those it was built with.
PEER = {**os.environ, "LD_LIBRARY_PATH": os.environ.get("DSRT_PEER_LIBRARY_PATH", os.environ.get("LD_LIBRARY_PATH", ""))}


def run(command, env=None):
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    if done.returncode:
        print(f"FAILED {' '.join(command)}\n{done.stderr[-2000:]}")
        return None
    return json.loads(done.stdout.strip().splitlines()[-1])


def peak():
    done = subprocess.run(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"], capture_output=True, text=True)
    return next((value for name, value in PEAK_TFLOPS.items() if name in done.stdout.partition("\n")[0]), None)


def has_torch():
    return subprocess.run([sys.executable, "-c", "import torch; assert torch.cuda.is_available()"], capture_output=True, env=PEER).returncode == 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bench", required=True), parser.add_argument("--peer", required=True)
    parser.add_argument("--seconds", type=int, default=200), parser.add_argument("--steps", type=int, default=20)
    args = parser.parse_args()
    end, torch, failed = time.monotonic() + args.seconds, has_torch(), False
    print("| step | libdsrt, s | tokens/s | TFLOP/s of products | of bf16's peak | PyTorch eager, s | ratio | compile, s | ratio |\n|---|---|---|---|---|---|---|---|---|")
    most = peak()
    for model, rows, length, dtype, more_config in ROWS:
        name = f"{model} B {rows} T {length} {dtype}" + (f", {more_config}" if more_config else "")
        if time.monotonic() > end:
            print(f"skipped {name}: no time left")
            continue
        shape = [model, str(rows), str(length), dtype]
        ours = run([args.bench, *shape, str(args.steps), "1", ", ".join(filter(None, ['"device": "cuda"', more_config]))])
        failed |= ours is None
        peers = [run([sys.executable, args.peer, *shape, "--steps", str(args.steps), *more], PEER) if torch else None for more in ([], ["--compile"])]
        if ours is None:
            continue
        seconds, tokens = ours["median_s"], rows * length
        cells = [f"{p['median_s']:.4f} | {p['median_s'] / seconds:.2f}" if p else "- | -" for p in peers]
        tflops = tokens * GPT2_FLOPS_A_TOKEN / seconds / 1e12
        share = f"{100 * tflops / most:.0f} %" if most and dtype == "bf16" else "-"
        print(f"| {name} | {seconds:.4f} | {tokens / seconds:.0f} | {tflops:.1f} | {share} | {' | '.join(cells)} |", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
