"""What the tests share: a causal model of a few hundred numbers, and a runner that counts as the suite does."""
import os
import sys
import unittest

MODEL = {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "vocab_size": 11, "n_positions": 16, "n_embd": 8, "n_layer": 1, "n_head": 2,
         "resid_pdrop": 0, "embd_pdrop": 0, "attn_pdrop": 0}
CONFIG = {"model": MODEL, "threads": 1, "train_micro_batch_size_per_gpu": 2, "optimizer": {"type": "AdamW", "params": {"lr": 0.01}}}
IDS = [[1, 2, 3, 4], [5, 6, 7, 8]]
# A tokenizer of eleven tokens, as many as the model's: letters, the two halves of "é" (ids 2 and 3), and a chat template.
TOKENIZER = os.path.join(os.environ.get("DSRT_TEST_DATA") or os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../../tests/data"), "languages")


def config(**more):
    return {**CONFIG, **more}


class Result(unittest.TextTestResult):
    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        print(f"\nSKIPPED python: {test.id()}: {reason}", flush=True)


def main():
    program = unittest.main(module="__main__", exit=False, testRunner=unittest.TextTestRunner(stream=sys.stdout, verbosity=1, resultclass=Result))
    r = program.result
    failed = len(r.failures) + len(r.errors) + len(r.unexpectedSuccesses)
    print(f"{r.testsRun - failed - len(r.skipped)} passed, {failed} failed")
    sys.exit(failed != 0)
