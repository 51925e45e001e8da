"""Ids that libdsrt and transformers generate from the models of tests/data/models and random prompts: greedy and beam search with their options, rows of
different lengths in one batch, with a cache and without. transformers computes in f64; rows with a close decision are left out (tests/data/generate/make.py).
Prints "N passed, N failed".
"""
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "data" / "generate"))

import dsrt
import make

passed = failed = 0
for folder in make.folders():
    engine = dsrt.Engine({"model": str(folder)})
    for seed in range(100, 104):
        for case in make.cases_of(folder, seed)[0]:
            for cache in (True, False):
                made = engine.generate(case["prompts"], {**case["options"], "use_cache": cache})
                for prompt, wanted, found in zip(case["prompts"], case["ids"], made):
                    if wanted == found:
                        passed += 1
                    else:
                        failed += 1
                        print(f"FAILED {folder.name} {case['options']} cache {cache} prompt {prompt}: {found}, transformers {wanted}")
print(f"{passed} passed, {failed} failed")
sys.exit(failed != 0)
