"""Writes the folders files_*: tokenizers that are not one tokenizer.json, and what `transformers` makes of them.

    python3 make_files.py OUT

Needs `transformers` 4, `sentencepiece` and `protobuf`.
"""
import io
import json
import pathlib
import random
import sys

import sentencepiece
from transformers import AlbertTokenizerFast, BertTokenizerFast, GPT2TokenizerFast, LlamaTokenizerFast, RobertaTokenizerFast, T5TokenizerFast

import make

OUT = pathlib.Path(sys.argv[1])
LINES = [text for text in make.CORPUS if text.strip()]


def sentencepiece_model(path, **options):
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(LINES), model_writer=out, hard_vocab_limit=False, minloglevel=2, num_threads=1, **options)
    path.write_bytes(out.getvalue())


def write(name, tokenizer, folder):
    fast = tokenizer.backend_tokenizer
    fast.no_truncation()
    fast.no_padding()
    rows = list(make.cases(fast, make.TEXTS, random.Random(name)))
    (folder / "cases.json").write_text("[\n" + ",\n".join(json.dumps(row, ensure_ascii=False, separators=(",", ":")) for row in rows) + "\n]\n")


def folder_of(name, config=None):
    folder = OUT / ("files_" + name)
    folder.mkdir(parents=True, exist_ok=True)
    if config is not None: (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def main():
    rules = OUT / "rules.tsv"
    rules.write_text("FF21\t41\nFB01\t66 69\n2460\t31\n3000\t20\n9\t20\nA\t20\nD\t20\n200B\t\n65 301\tE9\n")
    bpe = dict(model_type="bpe", vocab_size=460, byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False, split_digits=True)
    for name, config in (("llama", {}), ("llama_new", {"legacy": False, "add_eos_token": True})):
        folder = folder_of(name, config)
        sentencepiece_model(folder / "tokenizer.model", **bpe)
        write(name, LlamaTokenizerFast.from_pretrained(str(folder)), folder)
    folder = folder_of("t5", {"extra_ids": 3})
    sentencepiece_model(folder / "spiece.model", vocab_size=190, normalization_rule_tsv=str(rules), pad_id=0, eos_id=1, unk_id=2, bos_id=-1, user_defined_symbols=["[NORM]"])
    write("t5", T5TokenizerFast.from_pretrained(str(folder)), folder)
    folder = folder_of("albert", {"unk_token": "<unk>", "pad_token": "<pad>"})
    sentencepiece_model(folder / "spiece.model", vocab_size=190, normalization_rule_tsv=str(rules), pad_id=0, unk_id=1, bos_id=-1, eos_id=-1, control_symbols=["[CLS]", "[SEP]", "[MASK]"])
    write("albert", AlbertTokenizerFast.from_pretrained(str(folder)), folder)
    rules.unlink()
    pieces = make.wordpiece(make.normalizers.BertNormalizer())
    for name, config in (("bert", None), ("bert_cased", {"do_lower_case": False, "tokenize_chinese_chars": False})):
        folder = folder_of(name, config)
        pieces.model.save(str(folder))
        write(name, BertTokenizerFast.from_pretrained(str(folder)), folder)
    for name, kind, specials in (("gpt2", GPT2TokenizerFast, ["<|endoftext|>"]), ("roberta", RobertaTokenizerFast, ["<s>", "<pad>", "</s>", "<unk>", "<mask>"])):
        folder = folder_of(name)
        make.byte_bpe(make.pre_tokenizers.ByteLevel(add_prefix_space=False), specials=specials).model.save(str(folder))
        write(name, kind.from_pretrained(str(folder)), folder)


main()
