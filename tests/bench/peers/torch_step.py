#!/usr/bin/env python3
"""Times whole training steps (forward, backward, AdamW) of PyTorch on the CPU: the peer of bench_step, with the same batches.

Usage: torch_step.py gpt2|gpt2-lora|gpt2-responses|gpt2-in-backward|llama110m|t5small|bert|bert-mlm|FOLDER B T f32|bf16 [--steps 12] [--threads 2] [--compile] [--save FOLDER]
bf16 is torch.autocast over f32 weights; LoRA is PEFT's. A FOLDER's last part names the work. --save writes the fresh model as a Hugging Face folder and ends. Prints one JSON line.
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
    if name.startswith("gpt2"):
        config = transformers.GPT2Config(resid_pdrop=0, embd_pdrop=0, attn_pdrop=0, use_cache=False)
        return transformers.GPT2LMHeadModel._from_config(config, attn_implementation="sdpa")
    if name == "llama110m":
        config = transformers.LlamaConfig(hidden_size=768, intermediate_size=2048, num_hidden_layers=12, num_attention_heads=12, num_key_value_heads=4,
                                          vocab_size=32000, max_position_embeddings=2048, use_cache=False, tie_word_embeddings=True)
        return transformers.LlamaForCausalLM._from_config(config, attn_implementation="sdpa")
    if name == "t5small":
        config = transformers.T5Config(d_model=512, d_ff=2048, d_kv=64, num_layers=6, num_heads=8, vocab_size=32128, dropout_rate=0, use_cache=False,
                                       decoder_start_token_id=0)
        return transformers.T5ForConditionalGeneration(config)
    if name in ("bert", "bert-mlm"):
        config = transformers.BertConfig(hidden_dropout_prob=0, attention_probs_dropout_prob=0, num_labels=2)
        kind = transformers.BertForMaskedLM if name == "bert-mlm" else transformers.BertForSequenceClassification
        return kind._from_config(config, attn_implementation="sdpa")
    raise SystemExit(f"unknown model {name}")


def load(name):
    if "/" not in name:
        return fresh(name)
    kind = {"bert": transformers.AutoModelForSequenceClassification, "bert-mlm": transformers.AutoModelForMaskedLM,
            "t5small": transformers.AutoModelForSeq2SeqLM}.get(os.path.basename(name), transformers.AutoModelForCausalLM)
    attention = {} if name.endswith("t5small") else {"attn_implementation": "sdpa"}
    return kind.from_pretrained(name, dtype=torch.float32, **attention)


def ids(shape, below, salt):
    n = 1
    for d in shape:
        n *= d
    return ((7919 * torch.arange(n) + 13 * salt) % below).reshape(shape)


def labels_of(work, rows, length):
    if work == "bert":
        return ids((rows,), 2, 2)
    labels = ids((rows, length), 30000, 2)
    if work == "bert-mlm":
        labels[(torch.arange(labels.numel()) % 7 != 3).reshape(labels.shape)] = -100
    if work == "gpt2-responses":
        labels[:, : length * 3 // 4] = -100
    return labels


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
    work = os.path.basename(a.model)
    if work == "gpt2-lora":
        import peft
        model = peft.get_peft_model(model, peft.LoraConfig(r=8, lora_alpha=16, target_modules=["c_attn"], fan_in_fan_out=True))
    model.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4, weight_decay=0.01, foreach=False, fused=True)
    inputs = ids((a.B, a.T), 30000, 1)
    labels = labels_of(work, a.B, a.T)
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
    print(json.dumps(dict(peer="torch " + torch.__version__ + (" compile" if a.compile else ""), model=work, B=a.B, T=a.T, dtype=a.dtype,
                          threads=a.threads, median_s=round(statistics.median(warm), 4), min_s=round(min(warm), 4),
                          peak_rss_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, losses=losses)))


if __name__ == "__main__":
    main()
