"""Makes expected.json: what transformers generates in f64 from the models of tests/data/models. Run in an environment with torch and transformers:

    python tests/data/generate/make.py

A case is kept only where no decision was close (the two best scores differ by more than 1e-3), so that f32 must decide alike. The JSON holds for
each model a list of {"options", "prompts", "ids"}: options as ds_generate takes them, the new ids of each prompt alone. An encoder-decoder's prompts are its
sources, and its ids are what comes behind the decoder's start token.
"""
import itertools
import json
import pathlib

import torch
import transformers

HERE = pathlib.Path(__file__).resolve().parent
MODELS = HERE.parent / "models"
MARGIN = 1e-3


class Margins(transformers.LogitsProcessor):
    """Watches how far the best score was from the second best."""

    def __init__(self, count):
        self.count, self.least = count, float("inf")

    def __call__(self, ids, scores):
        best = torch.topk(scores, self.count, dim=-1).values
        self.least = min(self.least, (best[:, :-1] - best[:, 1:]).min().item())
        return scores


class BadWords(transformers.LogitsProcessor):
    """transformers' own, which takes f32 alone."""

    def __init__(self, words):
        self.inner = transformers.NoBadWordsLogitsProcessor(words)

    def __call__(self, ids, scores):
        torch.set_default_dtype(torch.float32)
        made = self.inner(ids, scores.float()).double()
        torch.set_default_dtype(torch.float64)
        return made


def option_sets(eos):
    yield {"max_new_tokens": 16, "eos_token_id": -1}
    yield {"max_new_tokens": 16, "eos_token_id": eos}
    yield {"max_new_tokens": 12, "min_new_tokens": 9, "eos_token_id": eos}
    yield {"max_length": 20, "repetition_penalty": 1.3, "eos_token_id": -1}
    for beams, penalty, early in [(2, 1.0, False), (3, 1.0, True), (3, 2.0, "never"), (4, 0.0, "never"), (3, -0.5, False), (5, 1.0, False)]:
        yield {"max_new_tokens": 12, "num_beams": beams, "length_penalty": penalty, "early_stopping": early, "eos_token_id": eos}
    yield {"max_new_tokens": 12, "num_beams": 3, "repetition_penalty": 1.2, "min_new_tokens": 5, "eos_token_id": eos}


def encoder_decoder_option_sets(eos, others):
    """What models that answer a source are used with besides."""
    forced = {"forced_bos_token_id": others[0], "forced_eos_token_id": eos[0]}
    yield {"max_new_tokens": 10, **forced, "eos_token_id": eos}
    yield {"max_new_tokens": 10, "num_beams": 3, "early_stopping": True, **forced, "eos_token_id": eos}
    yield {"max_new_tokens": 16, "no_repeat_ngram_size": 2, "eos_token_id": -1}
    yield {"max_new_tokens": 12, "num_beams": 4, "no_repeat_ngram_size": 1, "eos_token_id": eos}
    yield {"max_new_tokens": 14, "bad_words_ids": [[others[1]], [others[2], others[3]]], "eos_token_id": -1}
    yield {"max_new_tokens": 14, "decoder_start_token_id": others[0], "eos_token_id": -1}


def generate(model, prompt, options):
    named = {k: v for k, v in options.items() if k != "eos_token_id" and not (k.startswith("forced_") and v == -1)}
    eos = options["eos_token_id"]
    encoded = torch.tensor([prompt])
    beams = options.get("num_beams", 1)
    margins = Margins(2 * beams + 1)
    if model.config.is_encoder_decoder:
        named.setdefault("decoder_start_token_id", model.config.decoder_start_token_id)
        prompt = [named["decoder_start_token_id"]]
    processors = [BadWords(named.pop("bad_words_ids"))] if "bad_words_ids" in named else []
    out = model.generate(encoded, attention_mask=torch.ones_like(encoded), do_sample=False, eos_token_id=None if eos == -1 else eos,
                         pad_token_id=0, logits_processor=[*processors, margins], **named)
    ids = out[0, len(prompt):].tolist()
    if eos != -1:
        ends = eos if isinstance(eos, list) else [eos]
        for i, id in enumerate(ids):
            if id in ends:
                ids = ids[: i + 1]
                break
    return ids, margins.least


def folders():
    for folder in sorted(MODELS.iterdir()):
        if (folder / "case.json").exists() and json.loads((folder / "case.json").read_text())["task"] in ("causal", "seq2seq"):
            yield folder


def cases_of(folder, seed):
    """The cases of a model, and how many rows were left out as too close."""
    torch.set_default_dtype(torch.float64)
    seq2seq = json.loads((folder / "case.json").read_text())["task"] == "seq2seq"
    kind = transformers.AutoModelForSeq2SeqLM if seq2seq else transformers.AutoModelForCausalLM
    experts = {"experts_implementation": "eager"} if folder.name in ("mixtral", "qwen2-moe", "qwen3-moe") else {}  # the other one takes no f64
    model = kind.from_pretrained(folder, dtype=torch.float64, attn_implementation="eager", **experts).eval()
    model.generation_config = transformers.GenerationConfig()
    torch.manual_seed(seed)
    prompts = [torch.randint(3, min(97, model.config.vocab_size), (n,)).tolist() for n in (1, 3, 5, 8, 11, 14)]
    free, _ = generate(model, prompts[2], {"max_new_tokens": 16, "eos_token_id": -1})
    ends = [free[3], free[9]]  # ids that do come
    cases, dropped = [], 0
    more = encoder_decoder_option_sets(ends, [id for id in dict.fromkeys(free) if id not in ends] + [11, 12, 13, 14]) if seq2seq else []
    for options in itertools.chain(option_sets(ends), more):
        if seq2seq:
            options = {"forced_eos_token_id": -1, **options}  # whatever the folder says
        kept, ids = [], []
        for prompt in prompts:
            made, least = generate(model, prompt, options)
            if least < MARGIN * (0.05 if options.get("num_beams", 1) > 1 else 1):
                dropped += 1
                continue
            kept.append(prompt)
            ids.append(made)
        if kept:
            cases.append({"options": options, "prompts": kept, "ids": ids})
    return cases, dropped


def main():
    expected = {}
    for folder in folders():
        expected[folder.name], dropped = cases_of(folder, len(folder.name))
        cases = expected[folder.name]
        print(f"{folder.name}: {sum(len(c['prompts']) for c in cases)} rows, {dropped} dropped as too close")
    lines = [f" {json.dumps(name)}: [\n" + ",\n".join("  " + json.dumps(case) for case in cases) + "\n ]" for name, cases in expected.items()]
    (HERE / "expected.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
