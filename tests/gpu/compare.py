#!/usr/bin/env python3
"""Times libdsrt's bench_step on the GPU, beside PyTorch eager and compiled where torch is, and prints the table for RESULTS.md. run.sh calls it."""
import argparse
import json
import os
import subprocess
import sys
import time

ROWS = [("gpt2", 8, 1024, "bf16"), ("gpt2", 8, 1024, "f32"), ("gpt2", 32, 128, "bf16")]
GPT2_FLOPS_A_TOKEN = 6 * 124.4e6  # of the products; attention comes on top


# Of PyTorch's processes: not the bundle's libraries, which may be older than those it was built with.
PEER = {**os.environ, "LD_LIBRARY_PATH": os.environ.get("DSRT_PEER_LIBRARY_PATH", os.environ.get("LD_LIBRARY_PATH", ""))}


def run(command, env=None):
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    if done.returncode:
        print(f"FAILED {' '.join(command)}\n{done.stderr[-2000:]}")
        return None
    return json.loads(done.stdout.strip().splitlines()[-1])


def has_torch():
    return subprocess.run([sys.executable, "-c", "import torch; assert torch.cuda.is_available()"], capture_output=True, env=PEER).returncode == 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bench", required=True), parser.add_argument("--peer", required=True)
    parser.add_argument("--seconds", type=int, default=200), parser.add_argument("--steps", type=int, default=20)
    args = parser.parse_args()
    end, torch, failed = time.monotonic() + args.seconds, has_torch(), False
    print("| step | libdsrt, s | tokens/s | TFLOP/s of products | PyTorch eager, s | ratio | compile, s | ratio |\n|---|---|---|---|---|---|---|---|")
    for model, rows, length, dtype in ROWS:
        if time.monotonic() > end:
            print(f"skipped {model} B {rows} T {length} {dtype}: no time left")
            continue
        shape = [model, str(rows), str(length), dtype]
        ours = run([args.bench, *shape, str(args.steps), "1", '"device": "cuda"'])
        failed |= ours is None
        peers = [run([sys.executable, args.peer, *shape, "--steps", str(args.steps), *more], PEER) if torch else None for more in ([], ["--compile"])]
        if ours is None:
            continue
        seconds, tokens = ours["median_s"], rows * length
        cells = [f"{p['median_s']:.4f} | {p['median_s'] / seconds:.2f}" if p else "- | -" for p in peers]
        print(f"| {model} B {rows} T {length} {dtype} | {seconds:.4f} | {tokens / seconds:.0f} | {tokens * GPT2_FLOPS_A_TOKEN / seconds / 1e12:.1f} | {' | '.join(cells)} |", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
