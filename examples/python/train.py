"""Trains the model of examples/first/config.json, keeps a checkpoint, and lets the model write. Run it from the root of the repository:

    python3 examples/python/train.py FOLDER STEPS [--resume]

STEPS counts from the beginning of training, across runs. The last column is the loss again, bit by bit: all languages print the same.
"""
import argparse
import struct

import dsrt


def train(folder: str, steps: int, resume: bool) -> None:
    with dsrt.Engine("examples/first/config.json") as engine, dsrt.Data(engine) as data:
        if resume:
            engine.load(folder)
            print(f"resumed at step {engine.metric('global_steps'):.0f}")
        todo = steps - int(engine.metric("global_steps"))
        with dsrt.Progress(engine, total=steps) as progress:
            for step in engine.steps(data, count=todo):
                progress(step)
                print(f"step {step.number}  loss {step.loss:.4f}  {struct.pack('>f', step.loss).hex()}")
        engine.save(folder)

        tokenizer = dsrt.Tokenizer("examples/pretrain/tokenizer.json")
        ids = engine.generate(tokenizer.encode("'Twas ").ids, max_new_tokens=60, temperature=0)
        print("writes:", tokenizer.decode(ids).replace("\n", " / "))


if __name__ == "__main__":
    arguments = argparse.ArgumentParser()
    arguments.add_argument("folder")
    arguments.add_argument("steps", type=int)
    arguments.add_argument("--resume", action="store_true")
    try:
        train(**vars(arguments.parse_args()))
    except dsrt.Error as e:
        raise SystemExit(f"{e.name}: {e}")
