"""Ids that libdsrt and transformers generate from the models of tests/data/models and random prompts: greedy and beam search with their options, rows of
different lengths in one batch, with a cache and without. transformers computes in f64; rows with a close decision are left out (tests/data/generate/make.py).
Prints "N passed, N failed".
"""
import json
import pathlib
import sys
import tempfile

import torch
import transformers

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "data" / "generate"))

import dsrt
import make
from tally import Tally


def fresh_folders(parent):
    """Encoder-decoders of which there is no golden, with weights large enough that they say something."""
    torch.set_default_dtype(torch.float32)
    torch.manual_seed(0)
    bart = transformers.BartConfig(vocab_size=97, d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=64,
                                   decoder_ffn_dim=64, max_position_embeddings=40, init_std=0.6, pad_token_id=1, bos_token_id=0, eos_token_id=2, decoder_start_token_id=2)
    mt5 = transformers.MT5Config(vocab_size=97, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, relative_attention_num_buckets=8, relative_attention_max_distance=16,
                                 pad_token_id=0, eos_token_id=1, decoder_start_token_id=0)
    for model in (transformers.BartForConditionalGeneration(bart), transformers.MT5ForConditionalGeneration(mt5)):
        folder = pathlib.Path(parent) / model.config.model_type
        model.save_pretrained(folder)
        (folder / "case.json").write_text(json.dumps({"task": "seq2seq"}))
        yield folder


tally = Tally()
scratch = tempfile.TemporaryDirectory()
for folder in [*make.folders(), *fresh_folders(scratch.name)]:
    engine = dsrt.Engine({"model": str(folder)})
    for seed in range(100, 104):
        for case in make.cases_of(folder, seed)[0]:
            for cache in (True, False):
                made = engine.generate(case["prompts"], {**case["options"], "use_cache": cache})
                for prompt, wanted, found in zip(case["prompts"], case["ids"], made):
                    tally.case(f"{folder.name} {case['options']} cache {cache} prompt {prompt}: {found}, transformers {wanted}", wanted == found)
tally.finish()
