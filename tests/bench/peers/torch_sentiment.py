#!/usr/bin/env python3
"""The quickstart's work done by PyTorch and transformers: the same weights, rows, batch size, optimizer and schedule. One JSON line at the end.

--group-by-length sorts rows by length inside shuffled groups of 50 batches, as transformers' Trainer does: the stronger peer.
"""
import argparse
import json
import time

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from batches import batches_of

BATCH, MAX_LENGTH = 32, 128


def read_rows(path):
    lines = [line.rstrip("\n").split("\t") for line in open(path, encoding="utf-8", errors="replace")]
    rows = [(cells[2], int(float(cells[1]) > 0)) for cells in lines if len(cells) >= 3]
    return [row for i, row in enumerate(rows) if i % 10 != 9], rows[9::10]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model"), parser.add_argument("data"), parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--bf16", action="store_true"), parser.add_argument("--group-by-length", action="store_true")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    train, test = read_rows(args.data)
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    model = AutoModelForSequenceClassification.from_pretrained(args.model, num_labels=2)
    tokenize = lambda rows: tokenizer([text for text, _ in rows], padding=True, truncation=True, max_length=MAX_LENGTH, return_tensors="pt")
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5, weight_decay=0.01, fused=True)
    steps = -(-len(train) // BATCH)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(0.0, 1 - step / steps))
    model.train()
    begin = time.time()
    for batch in batches_of([len(row[0]) for row in train], BATCH, args.group_by_length):
        rows = [train[j] for j in batch]
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=args.bf16):
            loss = model(**tokenize(rows), labels=torch.tensor([label for _, label in rows])).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step(), optimizer.zero_grad(), schedule.step()
    seconds = time.time() - begin
    model.eval()
    right = 0
    with torch.no_grad():
        for i in range(0, len(test), 64):
            rows = test[i : i + 64]
            right += (model(**tokenize(rows)).logits.argmax(-1) == torch.tensor([label for _, label in rows])).sum().item()
    print(json.dumps({"train_seconds": seconds, "accuracy": 100 * right / len(test)}))


if __name__ == "__main__":
    main()
