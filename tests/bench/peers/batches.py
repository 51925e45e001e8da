"""The batches of an epoch, as PyTorch's data loaders make them, or of rows of like length: sorted inside shuffled groups of 50 batches, as transformers' Trainer does."""
import torch

GROUP = 50  # batches


def batches_of(lengths, size, grouped):
    """Lists of row numbers."""
    order = torch.randperm(len(lengths)).tolist()
    if grouped:
        groups = [order[k:k + GROUP * size] for k in range(0, len(order), GROUP * size)]
        order = [row for group in groups for row in sorted(group, key=lambda row: lengths[row], reverse=True)]
    batches = [order[k:k + size] for k in range(0, len(order), size)]
    return [batches[k] for k in torch.randperm(len(batches)).tolist()] if grouped else batches
