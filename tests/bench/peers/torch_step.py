#!/usr/bin/env python3
"""Times whole training steps (forward, backward, AdamW) of PyTorch on the CPU: the peer of bench_step, with the same batches.

Usage: torch_step.py gpt2|llama110m|bert|FOLDER B T f32|bf16 [--steps 12] [--threads 2] [--compile] [--save FOLDER]
bf16 is torch.autocast over f32 weights. --save writes the fresh model as a Hugging Face folder and ends. Prints one JSON line.
"""
import argparse
import json
import os
import resource
import statistics
import time

import torch
import transformers


def fresh(name):
    torch.manual_seed(1337)
    if name == "gpt2":
        config = transformers.GPT2Config(resid_pdrop=0, embd_pdrop=0, attn_pdrop=0, use_cache=False)
        return transformers.GPT2LMHeadModel._from_config(config, attn_implementation="sdpa")
    if name == "llama110m":
        config = transformers.LlamaConfig(hidden_size=768, intermediate_size=2048, num_hidden_layers=12, num_attention_heads=12, num_key_value_heads=4,
                                          vocab_size=32000, max_position_embeddings=2048, use_cache=False, tie_word_embeddings=True)
        return transformers.LlamaForCausalLM._from_config(config, attn_implementation="sdpa")
    if name == "bert":
        config = transformers.BertConfig(hidden_dropout_prob=0, attention_probs_dropout_prob=0, num_labels=2)
        return transformers.BertForSequenceClassification._from_config(config, attn_implementation="sdpa")
    raise SystemExit(f"unknown model {name}")


def load(name):
    if "/" not in name:
        return fresh(name)
    kind = transformers.AutoModelForSequenceClassification if "bert" in name else transformers.AutoModelForCausalLM
    return kind.from_pretrained(name, attn_implementation="sdpa", dtype=torch.float32)


def ids(shape, below, salt):
    n = 1
    for d in shape:
        n *= d
    return ((7919 * torch.arange(n) + 13 * salt) % below).reshape(shape)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model"), parser.add_argument("B", type=int), parser.add_argument("T", type=int), parser.add_argument("dtype")
    parser.add_argument("--steps", type=int, default=12), parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compile", action="store_true"), parser.add_argument("--save")
    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    model = load(a.model)
    if a.save:
        return model.save_pretrained(a.save)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.01, foreach=False, fused=True)
    inputs = ids((a.B, a.T), 30000, 1)
    labels = ids((a.B,), 2, 2) if "bert" in a.model else ids((a.B, a.T), 30000, 2)
    run = torch.compile(model) if a.compile else model
    times, losses = [], []
    for _ in range(a.steps):
        begin = time.perf_counter()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=a.dtype == "bf16"):
            loss = run(input_ids=inputs, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        times.append(time.perf_counter() - begin)
        losses.append(loss.item())
    warm = times[3:] if a.steps > 4 else times
    print(json.dumps(dict(peer="torch " + torch.__version__ + (" compile" if a.compile else ""), model=os.path.basename(a.model), B=a.B, T=a.T, dtype=a.dtype,
                          threads=a.threads, median_s=round(statistics.median(warm), 4), min_s=round(min(warm), 4),
                          peak_rss_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, losses=losses)))


if __name__ == "__main__":
    main()
