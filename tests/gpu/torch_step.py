#!/usr/bin/env python3
"""Times training steps of GPT-2 in plain PyTorch on a GPU, eager or compiled, as bench_step does for libdsrt: the same sizes, AdamW (fused), no dropout.

Usage: torch_step.py gpt2 B T f32|bf16 [--steps N] [--compile]; prints one JSON line.
"""
import argparse
import json
import statistics
import time

import torch
import torch.nn as nn
import torch.nn.functional as F


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        b, t, width = x.shape
        q, k, v = (z.view(b, t, self.heads, -1).transpose(1, 2) for z in self.qkv(self.ln_1(x)).split(width, dim=2))
        x = x + self.proj(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(b, t, width))
        return x + self.down(F.gelu(self.up(self.ln_2(x)), approximate="tanh"))


class Gpt2(nn.Module):
    def __init__(self, vocabulary=50257, positions=1024, width=768, layers=12, heads=12):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(vocabulary, width), nn.Embedding(positions, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.ln = nn.LayerNorm(width)

    def forward(self, ids, labels):
        x = self.wte(ids) + self.wpe(torch.arange(ids.shape[1], device=ids.device))
        for block in self.blocks:
            x = block(x)
        logits = F.linear(self.ln(x), self.wte.weight)
        return F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten())


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model", choices=["gpt2"]), parser.add_argument("B", type=int), parser.add_argument("T", type=int), parser.add_argument("dtype", choices=["f32", "bf16"])
    parser.add_argument("--steps", type=int, default=20), parser.add_argument("--compile", action="store_true")
    args = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = False
    model = Gpt2().cuda()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.01, fused=True)
    run = torch.compile(model) if args.compile else model
    n = args.B * args.T
    ids = ((7919 * torch.arange(n) + 13) % 30000).view(args.B, args.T).cuda()
    labels = ((7919 * torch.arange(n) + 26) % 30000).view(args.B, args.T).cuda()
    times = []
    for _ in range(args.steps):
        torch.cuda.synchronize()
        began = time.monotonic()
        with torch.autocast("cuda", torch.bfloat16, enabled=args.dtype == "bf16"):
            loss = run(ids, labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        torch.cuda.synchronize()
        times.append(time.monotonic() - began)
    print(json.dumps({"median_s": statistics.median(times[args.steps // 4:]), "peak_mib": torch.cuda.max_memory_allocated() / 2**20, "loss": float(loss.detach())}))


if __name__ == "__main__":
    main()
