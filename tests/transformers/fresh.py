"""How models begin that have no weights yet: each tensor's mean and spread as transformers draws them, for every row of models.CASES; what is constant, and rows of padding, to the last bit.

Prints "N passed, N failed".
"""
import pathlib
import sys
import tempfile

import numpy as np
import torch
import transformers
from safetensors.numpy import load_file

import dsrt
import models
from tally import Tally

UNUSED = {"bart-untied", "marian-untied"}  # have a tensor model.shared.weight that nothing reads
SIGMAS = 6  # of what means and spreads of so many draws differ by


def tensors(folder):
    found = {}
    for file in sorted(folder.glob("*.safetensors")):
        found |= load_file(file)
    return found


def differences(ours, theirs):
    if ours.shape != theirs.shape:
        return f"is {ours.shape}, not {theirs.shape}"
    ours, theirs = ours.astype(np.float64), theirs.astype(np.float64)
    if theirs.ndim == 2:
        zero = [set(np.flatnonzero(~x.any(axis=1))) for x in (ours, theirs)]
        if zero[0] != zero[1]:
            return f"zero rows {sorted(zero[0])}, not {sorted(zero[1])}"
    if theirs.std() == 0:
        return "" if np.array_equal(ours, theirs) else f"begins with {ours.ravel()[:3]}, not with {theirs.ravel()[:3]}"
    if theirs.size < 8:  # too few to tell
        return ""
    far = SIGMAS / np.sqrt(theirs.size)
    if abs(ours.mean() - theirs.mean()) > far * theirs.std() * np.sqrt(2) or abs(np.log(ours.std() / theirs.std())) > far:
        return f"mean {ours.mean():.5f}, spread {ours.std():.5f}; transformers: {theirs.mean():.5f}, {theirs.std():.5f}"
    return ""


def run(checks, case, work):
    name, config_class, model, settings, _, _ = case
    torch.manual_seed(1)
    config = getattr(transformers, config_class)(**settings)
    getattr(transformers, model)(config).save_pretrained(work / "theirs")
    engine = dsrt.Engine({"model": config.to_dict() | {"architectures": [model]}, "model_init": "random", "seed": 3, "threads": 1})
    engine.export(work / "ours", {})
    ours, theirs = tensors(work / "ours"), tensors(work / "theirs")
    checks.case(f"{name}: the same tensors", ours.keys() == theirs.keys(), str(ours.keys() ^ theirs.keys()))
    for tensor in sorted(ours.keys() & theirs.keys() - ({"model.shared.weight"} if name in UNUSED else set())):
        found = differences(ours[tensor], theirs[tensor])
        checks.case(f"{name}: {tensor}", not found, found)


def main():
    checks = Tally()
    for case in models.CASES:
        if len(sys.argv) == 1 or case[0] in sys.argv[1:]:
            with tempfile.TemporaryDirectory() as work:
                run(checks, case, pathlib.Path(work))
    checks.finish()


if __name__ == "__main__":
    main()
