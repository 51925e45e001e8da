#!/usr/bin/env python3
"""Times libdsrt's steps (bench_step) and kernels (bench_device) on the GPU, beside PyTorch where torch is, and prints the tables for RESULTS.md. run.sh calls it."""
import argparse
import json
import os
import subprocess
import sys
import time

# The last: more of libdsrt's config. PyTorch's row is the same without it; it has gpt2 only.
ROWS = [("gpt2", 8, 1024, "bf16", ""), ("gpt2", 32, 1024, "bf16", ""), ("gpt2", 32, 128, "bf16", ""), ("llama8b2", 4, 2048, "bf16", ""), ("gpt2", 8, 1024, "f32", ""), ("gpt2", 8, 1024, "bf16", '"fp8": {"enabled": true}')]
PEAK_TFLOPS = {"B200": 2250, "H200": 989, "H100": 989, "A100": 312}  # of dense bf16 products, from NVIDIA's data sheets (SXM); fp8 is held against the same
LAYERS_AND_WIDTH = {"gpt2": (12, 768), "llama8b2": (2, 4096)}


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


def flops_a_token(model, parameters, length):
    """Of model FLOPs utilization as PaLM counts them (Chowdhery et al. 2022, appendix B): 6 N + 12 L H Q T."""
    layers, width = LAYERS_AND_WIDTH[model]
    return 6 * parameters + 12 * layers * width * length


def kernels(bench, peer, torch):
    """Each kernel beside what PyTorch's attention takes, or beside a copy's bandwidth."""
    done = subprocess.run([bench], capture_output=True, text=True)
    if done.returncode:
        print(f"FAILED {bench}\n{done.stderr[-2000:]}")
        return False
    theirs = torch and run([sys.executable, peer], PEER) or {"us": {}, "copy_gb_s": None}
    copy = theirs["copy_gb_s"]
    print("\n| kernel | us | TFLOP/s or GB/s | PyTorch by default, us | ratio | its best backend, us | ratio | of a copy's bandwidth |\n|---|---|---|---|---|---|---|---|")
    for line in done.stdout.splitlines():
        ours = json.loads(line)
        peer_us = [f"{us:.0f} | {us / ours['us']:.2f}" for us in theirs["us"].get(ours["kernel"], ())] or ["- | -", "- | -"]
        share = f"{100 * ours['gb_s'] / copy:.0f} %" if copy and "gb_s" in ours else "-"
        print(f"| {ours['kernel']} | {ours['us']:.1f} | {ours.get('tflops', ours.get('gb_s')):.0f} | {' | '.join(peer_us)} | {share} |")
    if copy:
        print(f"\nA copy: {copy:.0f} GB/s, read and written.")
    return True


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bench", required=True), parser.add_argument("--peer", required=True)
    parser.add_argument("--kernels", required=True), parser.add_argument("--kernels-peer", required=True)
    parser.add_argument("--seconds", type=int, default=200), parser.add_argument("--steps", type=int, default=20)
    args = parser.parse_args()
    end, torch, failed, known = time.monotonic() + args.seconds, has_torch(), False, {}
    print("| step | libdsrt, s | tokens/s | model TFLOP/s | MFU (of bf16's peak) | plan and states, MiB | PyTorch eager, s | ratio | its memory, MiB | compile, s | ratio | its memory, MiB |\n|---|---|---|---|---|---|---|---|---|---|---|---|")
    most = peak()
    for model, rows, length, dtype, more_config in ROWS:
        name = f"{model} B {rows} T {length} {dtype}" + (f", {more_config}" if more_config else "")
        if time.monotonic() > end:
            print(f"skipped {name}: no time left")
            continue
        shape = [model, str(rows), str(length), dtype]
        ours = run([args.bench, *shape, str(args.steps), "1", ", ".join(filter(None, ['"device": "cuda"', more_config]))])
        failed |= ours is None
        if torch and model == "gpt2" and tuple(shape) not in known:
            known[tuple(shape)] = [run([sys.executable, args.peer, *shape, "--steps", str(args.steps), *more], PEER) for more in ([], ["--compile"])]
        peers = known.get(tuple(shape), [None, None])
        if ours is None:
            continue
        seconds, tokens = ours["median_s"], rows * length
        cells = [f"{p['median_s']:.4f} | {p['median_s'] / seconds:.2f} | {p['peak_mib']:.0f}" if p else "- | - | -" for p in peers]
        memory = ours["plan_mib"] + ours["parameters"] * (18 if dtype == "bf16" else 16) / 2**20  # weights, gradients and moments in f32, and bf16 copies
        tflops = tokens * flops_a_token(model, ours["parameters"], length) / seconds / 1e12
        share = f"{100 * tflops / most:.0f} %" if most and dtype == "bf16" else "-"
        print(f"| {name} | {seconds:.4f} | {tokens / seconds:.0f} | {tflops:.1f} | {share} | {memory:.0f} | {' | '.join(cells)} |", flush=True)
    failed |= not kernels(args.kernels, args.kernels_peer, torch)
    sys.exit(failed)


if __name__ == "__main__":
    main()
