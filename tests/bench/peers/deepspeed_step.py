#!/usr/bin/env python3
"""Times whole training steps of DeepSpeed on the CPU (bf16, ZeRO stage 1, one process): the peer of bench_step, with the same batches.

Usage: deepspeed_step.py gpt2|llama110m|bert B T bf16 [--steps 12] [--threads 2]. Prints one JSON line.
"""
import argparse
import json
import os
import resource
import statistics
import time

os.environ.update(DS_ACCELERATOR="cpu", RANK="0", WORLD_SIZE="1", LOCAL_RANK="0", LOCAL_SIZE="1", MASTER_ADDR="127.0.0.1")
os.environ.setdefault("MASTER_PORT", "29517")

import deepspeed
import torch

from torch_step import fresh, ids


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model"), parser.add_argument("B", type=int), parser.add_argument("T", type=int), parser.add_argument("dtype", choices=["bf16"])
    parser.add_argument("--steps", type=int, default=12), parser.add_argument("--threads", type=int, default=2)
    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    deepspeed.init_distributed("gloo")
    config = {"train_micro_batch_size_per_gpu": a.B, "bf16": {"enabled": True}, "zero_optimization": {"stage": 1},
              "optimizer": {"type": "AdamW", "params": {"lr": 1e-4, "weight_decay": 0.01}}}
    model = fresh(a.model)
    model.train()
    engine, *_ = deepspeed.initialize(model=model, model_parameters=model.parameters(), config=config)
    inputs = ids((a.B, a.T), 30000, 1)
    labels = ids((a.B,), 2, 2) if a.model == "bert" else ids((a.B, a.T), 30000, 2)
    times, losses = [], []
    for _ in range(a.steps):
        begin = time.perf_counter()
        loss = engine(input_ids=inputs, labels=labels).loss
        engine.backward(loss)
        engine.step()
        times.append(time.perf_counter() - begin)
        losses.append(loss.item())
    warm = times[3:] if a.steps > 4 else times
    print("\n" + json.dumps(dict(peer="deepspeed " + deepspeed.__version__, median_s=round(statistics.median(warm), 4), min_s=round(min(warm), 4),
                                 peak_rss_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, losses=losses)))


if __name__ == "__main__":
    main()
