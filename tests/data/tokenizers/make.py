"""Writes the folders of this directory: small tokenizers of every kind, and what the Python package `tokenizers` answers.

    python3 make.py OUT [--fuzz N]

Needs `tokenizers` and `sentencepiece`. The folders bert, gpt2, llama2, llama3 and unigram were given and are not made here.
With --fuzz, N random texts a tokenizer take the place of the fixed ones.
"""
import argparse
import json
import pathlib
import random

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

TEXTS = [
    "Hello, world!", "", " ", "  leading and  double  spaces ", "don't can't I'll we've DON'T", "naïve café résumé Ünïcödé", "e\u0301 combining A\u030a q\u0323\u0307",
    "中文和English混合 1234567", "日本語テキスト ｶﾞ", "한국어 문장 \u1112\u1161\u11ab", "emoji 👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽", "tabs\tand\nnew\r\nlines\n\n\n", "3.14159 1,000,000 0xDEADBEEF ½ ²",
    "snake_case camelCase kebab-case", "\u200bzero\u200dwidth\ufeff", "control \x01\x02 \x7f \x85 \xad", "ＦＵＬＬ ｗｉｄｔｈ ﬁ ① ㍿ ﷺ", "مرحبا بالعالم", "हिन्दी पाठ", "aaaaaaaaaaaaaaaaaaaa",
    "!!!???...---", "a-b--c-d", "--a", "b--", "https://example.org/a?b=c&d=%20", "\ud7ff \ue000 \U0010fffd", "İstanbul ıI ẞß Σσς ǅ", "[MASK] <mask>  x <mask>y", "x[NORM]y [norm] [NORM]z",
    "word words wordy sword word", "  \u00a0\u2003 thin\u2009space\u3000", "\u0344 \u1e9b\u0323 \uac00\u11a8", "a\u0300\u0316b", "`` quoted ''", "ab  cd   ef", "\t x", "x \n y",
    "the quick brown fox jumps over the lazy dog", "\ufb03 \u2126 \u212b", "▁ under ▁▁ bar", "Ġ stands", "'s 'S 'ſ 'LL ''", "1 22 333 4444 55555", "the.end,of;it", "ab\r\n\r\ncd", "</s> a </s>b<s>",
]
CORPUS = TEXTS + ["the cat sat on the mat and the dog ran to the end of the word", "words wordy sword Hello world camel case snake", "lines tabs combining quick lazy brown"] * 4
ALPHABET = list("abcdeABCE 12'.,-_!?\n\t\r<>[]▁Ġ") + ["é", "e\u0301", "Å", "中", "文", "か\u3099", "한", "각", "🙂", "\u200d", "👩", "\ufeff", "ß", "İ", "\u0345", "\u0316", "\u00a0", "\u3000", "ﬁ", "½",
                                                   "Ⅷ", "\x00", "\x1f", "\ufffd", "\u0301", "ǆ", "\u1100", "\u1161", "\u11a8", "ﾞ", "ｶ", "  ", "the", "word", "[MASK]", "<mask>", "</s>", "[NORM]", "'s", "'re"]


def train(model, trainer, pre=None, norm=None):
    t = Tokenizer(model)
    if norm: t.normalizer = norm
    if pre: t.pre_tokenizer = pre
    t.train_from_iterator(CORPUS, trainer)
    return t


def byte_bpe(pre, size=420, specials=("<s>", "</s>", "<mask>"), norm=None, **kw):
    return train(models.BPE(**kw), trainers.BpeTrainer(vocab_size=size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), special_tokens=list(specials), show_progress=False), pre, norm)


def bpe(pre=None, size=250, specials=("<unk>",), norm=None, trainer=None, **kw):
    return train(models.BPE(unk_token="<unk>", **kw), trainers.BpeTrainer(vocab_size=size, special_tokens=list(specials), show_progress=False, **(trainer or {})), pre, norm)


def wordpiece(norm, pre=None, size=260):
    t = train(models.WordPiece(unk_token="[UNK]"), trainers.WordPieceTrainer(vocab_size=size, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], show_progress=False),
              pre or pre_tokenizers.BertPreTokenizer(), norm)
    t.decoder = decoders.WordPiece(cleanup=False)
    t.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    return t


def unigram(norm, pre, size=300, **kw):
    return train(models.Unigram(), trainers.UnigramTrainer(vocab_size=size, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False), pre, norm)


def charsmap():
    """A small precompiled map: sentencepiece compiles rules only while it trains."""
    import base64, io, sentencepiece, sentencepiece.sentencepiece_model_pb2 as pb, tempfile
    rules = {"Ａ": "A", "Ｆ": "F", "ﬁ": "fi", "①": "1", "㍿": "株式会社", "\t": " ", "\n": " ", "\u200b": "", "e\u0301": "é", "ｶﾞ": "ガ", "ｶ": "カ", "½": "1⁄2", "\u3000": " ", "\u00a0": " ", "ab": "X", "\x01": "", "👍🏽": "+1"}
    with tempfile.TemporaryDirectory() as folder:
        tsv = pathlib.Path(folder) / "rules.tsv"
        tsv.write_text("".join("%s\t%s\n" % (" ".join("%X" % ord(c) for c in k), " ".join("%X" % ord(c) for c in v)) for k, v in rules.items()))
        out = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter([c for c in CORPUS if c.strip()]), model_writer=out, vocab_size=190, hard_vocab_limit=False, normalization_rule_tsv=str(tsv), minloglevel=2)
    proto = pb.ModelProto()
    proto.ParseFromString(out.getvalue())
    return proto.normalizer_spec.precompiled_charsmap


def roberta(prefix, trim):
    t = byte_bpe(pre_tokenizers.ByteLevel(add_prefix_space=prefix))
    t.add_special_tokens([AddedToken("<mask>", lstrip=True, special=True)])
    t.post_processor = processors.RobertaProcessing(("</s>", 1), ("<s>", 0), trim_offsets=trim, add_prefix_space=prefix)
    t.decoder = decoders.ByteLevel()
    return t


def chars(pre, norm=None, decoder=None):
    """A WordLevel whose vocabulary is every code point: ids are dull, but offsets and words show what the stages do."""
    vocab = {"<unk>": 0}
    for text in TEXTS:
        for c in text: vocab.setdefault(c, len(vocab))
    t = Tokenizer(models.WordLevel(vocab, "<unk>"))
    t.pre_tokenizer = pre
    if norm: t.normalizer = norm
    if decoder: t.decoder = decoder
    return t


def with_added(t):
    t.add_tokens([AddedToken("word", single_word=True), AddedToken("[NORM]", normalized=True), AddedToken("[MASK]", lstrip=True, rstrip=True, normalized=False), AddedToken("ab", normalized=False)])
    t.add_special_tokens([AddedToken("</s>", special=True, rstrip=True), AddedToken("<s>", special=True, normalized=True)])
    return t


def kinds():
    N, P = normalizers, pre_tokenizers
    llama3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    yield "roberta", roberta(True, True)
    yield "roberta_no_prefix", roberta(False, True)
    for name, regex in (("qwen2", llama3.replace("{1,3}", "")), ("o200k", r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")):
        t = byte_bpe(P.Sequence([P.Split(Regex(regex), "isolated"), P.ByteLevel(add_prefix_space=False, use_regex=False)]), norm=N.NFC(), ignore_merges=name == "o200k")
        t.decoder = decoders.ByteLevel()
        yield name, t
    t = byte_bpe(P.Sequence([P.Digits(True), P.ByteLevel(add_prefix_space=False)]))
    t.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=True), processors.TemplateProcessing(single="<s> $A", pair="<s> $A $B:2 </s>:3", special_tokens=[("<s>", 0), ("</s>", 1)])])
    t.decoder = decoders.ByteLevel()
    yield "starcoder", with_added(t)
    t = bpe(P.Sequence([P.Whitespace()]), trainer={"end_of_word_suffix": "</w>"}, end_of_word_suffix="</w>", norm=N.Sequence([N.NFC(), N.Replace(Regex(r"\s+"), " "), N.Lowercase()]))
    t.decoder = decoders.BPEDecoder("</w>")
    yield "clip", t
    yield "bpe_prefix", bpe(P.WhitespaceSplit(), trainer={"continuing_subword_prefix": "##"}, continuing_subword_prefix="##", fuse_unk=False)
    t = bpe(None, norm=N.Sequence([N.Prepend("▁"), N.Replace(" ", "▁")]), specials=["<unk>", "<s>", "</s>"] + ["<0x%02X>" % b for b in range(256)], size=420, fuse_unk=True, byte_fallback=True)
    t.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    yield "llama_added", with_added(t)
    t = bpe(P.Metaspace(prepend_scheme="first", split=False), specials=["<unk>"] + ["<0x%02X>" % b for b in range(0xC0)], size=400, fuse_unk=True, byte_fallback=True)
    t.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    yield "some_bytes", with_added(t)
    yield "bert_cased", with_added(wordpiece(N.BertNormalizer(lowercase=False)))
    yield "bert_accents", wordpiece(N.BertNormalizer(lowercase=True, strip_accents=False, handle_chinese_chars=False))
    yield "bert_unclean", wordpiece(N.BertNormalizer(clean_text=False, lowercase=False, strip_accents=True))
    t = unigram(N.Sequence([N.Precompiled(charsmap()), N.Strip(False, True), N.Replace(Regex(" {2,}"), "▁")]), P.Metaspace())
    t.decoder = decoders.Metaspace()
    t.post_processor = processors.TemplateProcessing(single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)])
    yield "t5", t
    yield "albert", with_added(unigram(N.Sequence([N.Replace("``", '"'), N.Replace("''", '"'), N.NFKD(), N.StripAccents(), N.Lowercase(), N.Replace(Regex(" {2,}"), " ")]), P.Sequence([P.WhitespaceSplit(), P.Metaspace(prepend_scheme="first")])))
    yield "xlnet", unigram(N.Nmt(), P.Metaspace(prepend_scheme="never"))
    for form in ("NFC", "NFD", "NFKC", "NFKD"): yield form.lower(), chars(P.Split("", "isolated"), getattr(N, form)())
    yield "lower", chars(P.Split("", "isolated"), N.Sequence([N.Strip(), N.Lowercase(), N.StripAccents()]))
    yield "byte_normalizer", byte_bpe(None, norm=N.Sequence([N.NFD(), N.ByteLevel()]))
    for behavior in ("removed", "isolated", "merged_with_previous", "merged_with_next", "contiguous"):
        yield "split_" + behavior, chars(P.Sequence([P.Split(Regex(r"[-\s]|\w{3}"), behavior), P.Split("a", behavior, invert=behavior != "removed")]))
        yield "punctuation_" + behavior, chars(P.Sequence([P.Punctuation(behavior), P.Digits(behavior == "isolated")]))
    yield "whitespace", chars(P.Sequence([P.Whitespace(), P.Split(Regex(r"(?i)[a-c]|\b\w\B|\h(?=\d)|\u4e2d|^x$"), "isolated")]))
    yield "delimiter", chars(P.Sequence([P.CharDelimiterSplit("-"), P.FixedLength(3)]), decoder=decoders.CTC(pad_token="a"))
    yield "scripts", chars(P.UnicodeScripts())
    yield "classes", chars(P.Sequence([P.Split(Regex(r" ?[^(\s|[.,!?…。，、।۔،])]+"), "isolated"), P.Split(Regex(r"[\p{L}&&[^a-m\p{Han}]]+|[\W&&[^ ]]"), "merged_with_next")]))
    # Of a code point that no token holds nothing is left, and those behind it come to lie before their place.
    t = Tokenizer(models.BPE({c: i for i, c in enumerate("▁aeortdhwlc")} | {"▁w": 11, "or": 12, "▁wor": 13}, [("▁", "w"), ("o", "r"), ("▁w", "or")]))
    t.normalizer = N.Replace(" ", "▁")
    t.add_tokens([AddedToken("\n", lstrip=True, rstrip=True, normalized=False)])
    yield "vanishing", t
    # What Replace puts in front of all stands where the stretch began, whatever Strip took from there.
    t = Tokenizer(models.BPE({c: i for i, c in enumerate("?-abcdehorstw")}, [], unk_token="?"))
    t.normalizer = N.Sequence([N.Strip(), N.Replace(Regex("x*"), "-")])
    t.add_tokens([AddedToken("</s>", normalized=False)])
    yield "stripped_front", t
    t = Tokenizer(models.Unigram([("<unk>", 0.0), ("a", -1.0), ("▁", -2.0), ("▁the", -2.5), ("e", -3.0), ("word", -3.0)], 0, False))
    t.pre_tokenizer = P.Metaspace(split=False)
    t.post_processor = processors.ByteLevel(trim_offsets=True, add_prefix_space=False)
    yield "unigram_trimmed", t
    # Scores as random as these have a last bit that decides between "!!" "!" and "!" "!!".
    rng = random.Random(29)
    pieces = [("<unk>", 0.0)] + [(c, -rng.random() * 9) for c in "!?.-xa "] + [(c + c, -9 - rng.random() * 9) for c in "!?.-xa "]
    yield "unigram_ties", Tokenizer(models.Unigram(pieces, 0, False))


def random_text(rng): return "".join(rng.choice(ALPHABET) for _ in range(rng.randint(0, 24)))


def row(t, e, **given):
    out = dict(given)
    out.update(ids=e.ids, type_ids=e.type_ids, offsets=e.offsets, word_ids=[-1 if w is None else w for w in e.word_ids], special=e.special_tokens_mask)
    out.update(decoded=t.decode(e.ids, skip_special_tokens=False), decoded_skip_special=t.decode(e.ids))
    return out


def cases(t, texts, rng):
    for i, text in enumerate(texts):
        pair = texts[(i * 7 + 3) % len(texts)] if i % 3 == 0 else None
        special = i % 2 == 0 or pair is not None
        yield row(t, t.encode(text, pair, add_special_tokens=special), text=text, pair=pair, add_special_tokens=special)
        if i % 8 == 1:
            t.enable_truncation(rng.randint(5, 9))
            given = dict(text=text, pair=texts[i - 1], max_length=t.truncation["max_length"], add_special_tokens=True)
            yield row(t, t.encode(text, texts[i - 1]), **given)
            t.no_truncation()
        if i % 8 == 2:
            words = [w for w in text.split(" ")]
            yield row(t, t.encode(words, is_pretokenized=True), words=words, add_special_tokens=True)
    for raw in (b"a\xffb \xe2\x82 c\xf0\x9f\x98 \xc0\x80 \xed\xa0\x80", b"\x80\xbf end \xe2"):
        yield row(t, t.encode(raw.decode("utf-8", "replace")), text=list(raw), pair=None, add_special_tokens=True)


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("out", type=pathlib.Path)
    arguments.add_argument("--fuzz", type=int, default=0)
    arguments = arguments.parse_args()
    for name, t in kinds():
        rng = random.Random(name)
        texts = [random_text(rng) for _ in range(arguments.fuzz)] if arguments.fuzz else TEXTS
        folder = arguments.out / name
        folder.mkdir(parents=True, exist_ok=True)
        text = t.to_str()  # the answers are those of who reads this text: scores may change on their way
        t = Tokenizer.from_str(text)
        (folder / "tokenizer.json").write_text(text)
        (folder / "cases.json").write_text("[\n" + ",\n".join(json.dumps(c, ensure_ascii=False, separators=(",", ":")) for c in cases(t, texts, rng)) + "\n]\n")


if __name__ == "__main__":
    main()
