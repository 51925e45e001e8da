"""Random texts through every tokenizer of tests/data/tokenizers: ids, type ids, offsets and decoded texts equal those of the Python package
`tokenizers`; batches equal transformers' tokenizer(texts, padding=..., truncation=...) on either side. Usage: texts.py [TEXTS A TOKENIZER] [SEED]
Prints "N passed, N failed": a case is one text (or pair), or one batch.
"""
import json
import pathlib
import random
import sys
import tempfile
import unicodedata

import tokenizers
import transformers

import dsrt
from tally import Tally

DATA = pathlib.Path(__file__).resolve().parent.parent / "data" / "tokenizers"
sys.path.insert(0, str(DATA))
import make  # noqa: E402  the alphabet of the recorded cases

WORDS = [text for text in make.TEXTS if text] + ["the quick", "brown fox", "words wordy", "12345", "\n\n", "   ", "𝒳", "\u202e", "क्षि", "ﷺ", "İ", "\u1e9e"]
tally = Tally()


def check(what, ours, theirs):
    tally.case(what, ours == theirs, f"libdsrt {str(ours)[:400]}", f"peer    {str(theirs)[:400]}")


def random_text(rng):
    kind = rng.random()
    if kind < 0.5:
        return "".join(rng.choice(make.ALPHABET) for _ in range(rng.randint(0, 40)))
    if kind < 0.85:
        return rng.choice(["", " "]).join(rng.choice(WORDS) for _ in range(rng.randint(1, 6)))
    points = [rng.choice([rng.randrange(1, 0x250), rng.randrange(1, 0x3000), rng.randrange(1, 0x110000)]) for _ in range(rng.randint(1, 12))]
    # The libraries differ in their version of Unicode: only what has been the same ever since 3.2 is asked for.
    old = unicodedata.ucd_3_2_0
    same = lambda c: all(getattr(old, f)(c) == getattr(unicodedata, f)(c) for f in ("category", "combining", "decomposition"))
    return "".join(c for c in map(chr, points) if same(c) and unicodedata.category(c) not in ("Cn", "Cs"))


def singles(name, folder, count, rng):
    theirs = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    theirs.no_padding(), theirs.no_truncation()
    ours = dsrt.Tokenizer(folder / "tokenizer.json")
    for _ in range(count):
        text, pair, special = random_text(rng), random_text(rng) if rng.random() < 0.25 else None, rng.random() < 0.7
        wanted = theirs.encode(text, pair, add_special_tokens=special)
        try:
            found = ours.encode(text, pair, special)
        except dsrt.Error as error:
            found = error
        check(f"{name}: {text!r}, {pair!r}, special tokens {special}", found, (wanted.ids, wanted.type_ids, wanted.offsets))
        skip = rng.random() < 0.5
        check(f"{name}: decoding {wanted.ids}", ours.decode(wanted.ids, skip), theirs.decode(wanted.ids, skip_special_tokens=skip))


def batches(name, folder, config, count, rng):
    """Rows padded and cut by the word of the call, or else of tokenizer_config.json."""
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        (work / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes())
        (work / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, **config}))
        theirs, ours = transformers.AutoTokenizer.from_pretrained(str(work)), dsrt.Tokenizer(work)
        for _ in range(count):
            texts = [random_text(rng).replace("\x00", "") for _ in range(rng.randint(1, 4))]
            pairs = [random_text(rng).replace("\x00", "") for _ in texts] if rng.random() < 0.4 else None
            options = {"padding": rng.choice(["longest", "max_length"]), "max_length": rng.randint(5, 20), "add_special_tokens": rng.random() < 0.8}
            options["truncation"] = rng.choice([True, "longest_first"])
            if rng.random() < 0.4:
                options["padding_side"] = rng.choice(["left", "right"])
            if rng.random() < 0.4:
                options["pad_to_multiple_of"] = rng.choice([2, 8])
                options["max_length"] = 8 * rng.randint(1, 3)  # transformers refuses others
            wanted = theirs(texts, pairs, return_token_type_ids=True, **options)
            wanted = {key: wanted[key] for key in ("input_ids", "attention_mask", "token_type_ids")}
            if not any(wanted["input_ids"]):
                continue
            found = ours.encode_batch(texts, pairs, options)
            names = [key for key in wanted if key != "token_type_ids" or pairs or any(map(any, wanted[key]))]
            check(f"{name}: {texts!r}, {pairs!r}, {options}", {key: found.get(key).tolist() for key in names}, {key: wanted[key] for key in names})


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    rng = random.Random(sys.argv[2] if len(sys.argv) > 2 else "0")
    folders = sorted(path.parent for path in DATA.glob("*/tokenizer.json"))
    for folder in folders:
        before = tally.failed
        singles(folder.name, folder, count, rng)
        if tally.failed > before:
            print(f"{folder.name}: {tally.failed - before} of {2 * count} differ", flush=True)
    for name, config in (("bert", {"pad_token": "[PAD]"}), ("bert", {"pad_token": "[PAD]", "padding_side": "left", "truncation_side": "left", "pad_token_type_id": 3}),
                         ("gpt2", {"pad_token": "<|endoftext|>", "padding_side": "left"}), ("t5", {"pad_token": "<pad>"}), ("starcoder", {"pad_token": "</s>", "truncation_side": "left"})):
        batches(f"{name} {config}", DATA / name, config, max(count // 5, 20), rng)
    print(f"{len(folders)} tokenizers, tokenizers {tokenizers.__version__}, transformers {transformers.__version__}")
    tally.finish()


if __name__ == "__main__":
    main()
