"""Random tokenizer.json files beside the Python package `tokenizers`: stages of every kind in any order, with any fields, on random texts.

Each case is a number, which seeds the file and its texts: ids, type ids, offsets, and decoded ids. What `tokenizers` itself declines is counted, and
so is what libdsrt refuses by name (DS_E_UNSUPPORTED). Prints "N passed, N failed": a case is one file with all its texts.

stages.py [FILES] | stages.py :NUMBER ...
"""
import json
import pathlib
import random
import sys

import tokenizers

import dsrt
import texts
from tally import Tally

DATA = texts.DATA
BYTES = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
BYTE = {}  # byte -> its stand-in
for number in range(256):
    kept = 33 <= number <= 126 or 161 <= number <= 172 or 174 <= number <= 255
    BYTE[number] = chr(number) if kept else chr(256 + sum(not (33 <= b <= 126 or 161 <= b <= 172 or 174 <= b <= 255) for b in range(number)))
CHARS = list("abcdeABCEtheword 12'.,-_!?<>[]/") + ["é", "e\u0301", "中", "文", "한", "🙂", "ß", "İ", "\u0301", "ﬁ", "½", "\u00a0", "▁", "Ġ", "\n", "\t", "\u200d"]
WORDS = ["the", "word", "words", "ab", "abc", "é", "中文", "[MASK]", "<mask>", "</s>", "a b", " a", "a ", "▁", "▁a", "the▁", "12", "..", "THE", "É", "🙂", "ing", "\n", "##", "e", "'s"]
REGEXES = [r"\s+", r"\s", r" {2,}", r"\d+", r"\d{1,3}", r"\p{L}+", r"\p{N}", r"[^\s\p{L}\p{N}]+", r"\w+|[^\w\s]+", r"(?i:'s|'t|'re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
           r"[\r\n]", r"\s?\p{L}+", r"[一-龥぀-ゟ゠-ヿ]+", r"(?<=a)b", r"\p{P}", r"[!-/:-~]", r"$", r"^", r"[A-Za-z]+|\d", r"(a|b)+?", r"\bthe\b", r".", r"x+", r"[^\w]", r"\p{Lu}\p{Ll}*", r"(?!\n)\s", r"\p{M}+",
           r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+", r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+",
           r"\p{Han}+", r"[\p{Han}\p{Hiragana}]", r"(?m).", r"\A.", r".\z", r"a{2}|e{0,1}", r"\h", r"[[:alpha:]]+", r"[^[:space:]]", r"\P{L}+", r" ?[^(\s|[.,!?…。，、।۔،])]+", r"[\p{L}&&[^a-c]]+",
           r"[^\p{L}&&[a-e]]", r"[a-c[1-3]é]+", r"[^a-c[1-3]\s]+", r"[[a-z]&&[^aeiou]&&\w]{1,2}", r"[\W&&[^ ]]", r"[^\W\d]+", r"[\H]+", r"[[:^alpha:]]", r"[\P{Letter}1]+", r"[[[ab]c][d]]+?", r"(?<=[a[ \n]])[\p{L}]",
           r"[\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
           r"[&&a]b", r"[a&&]", r"a++", r"(?>a|ab)", r"\R", r"(?<x>a)\k<x>", r"[]a]", r"[a-]", r"\x{41}|\x61", r"\d{2,}?", r"(?i)É", r"[^\S\n]+", r"\s{2,}(?=\S)"]


def pattern(r):
    return {"Regex": r.choice(REGEXES)} if r.random() < 0.5 else {"String": r.choice([" ", "a", "the", "▁", "é", "  ", ".", "中", "-", "ab"])}


def charsmaps():
    found = []
    for name in ("t5", "files_t5", "files_albert"):
        path = DATA / name / "tokenizer.json"
        if path.exists():
            found += [stage["precompiled_charsmap"] for stage in walk(json.loads(path.read_text()).get("normalizer")) if stage.get("type") == "Precompiled"]
    return found


def walk(stage):
    if isinstance(stage, dict):
        yield stage
        for value in stage.values():
            yield from walk(value)
    elif isinstance(stage, list):
        for value in stage:
            yield from walk(value)


CHARSMAPS = charsmaps()
flag = lambda r: r.random() < 0.5


def normalizer(r):
    return r.choice([
        lambda: {"type": r.choice(["NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "Nmt"])},
        lambda: {"type": "BertNormalizer", "clean_text": flag(r), "handle_chinese_chars": flag(r), "strip_accents": r.choice([None, True, False]), "lowercase": flag(r)},
        lambda: {"type": "Strip", "strip_left": flag(r), "strip_right": flag(r)},
        lambda: {"type": "Replace", "pattern": pattern(r), "content": r.choice(["", " ", "▁", "x", "ab", "中", "é"])},
        lambda: {"type": "Prepend", "prepend": r.choice(["▁", " ", "x", "中"])},
        lambda: {"type": "Precompiled", "precompiled_charsmap": r.choice(CHARSMAPS)},
    ])()


def pre_tokenizer(r):
    behavior = r.choice(["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"])
    return r.choice([
        lambda: {"type": r.choice(["BertPreTokenizer", "Whitespace", "WhitespaceSplit", "UnicodeScripts"])},
        lambda: {"type": "Split", "pattern": pattern(r), "behavior": behavior, "invert": flag(r)},
        lambda: {"type": "Split", "pattern": pattern(r), "behavior": behavior, "invert": flag(r)},
        lambda: {"type": "Metaspace", "replacement": r.choice(["▁", "▁", "_", "中"]), "prepend_scheme": r.choice(["first", "never", "always"]), "split": flag(r)},
        lambda: {"type": "Metaspace", "replacement": "▁", "add_prefix_space": flag(r)},
        lambda: {"type": "Punctuation", "behavior": behavior},
        lambda: {"type": "Digits", "individual_digits": flag(r)},
        lambda: {"type": "CharDelimiterSplit", "delimiter": r.choice(["-", " ", "e", "中"])},
        lambda: {"type": "FixedLength", "length": r.choice([1, 2, 5])},
    ])()


def sequence(r, one, key, lengths, last=()):
    """null, one stage, or a Sequence, which may hold others."""
    count = r.choice(lengths)
    stages = [one(r) for _ in range(count)] + list(last)
    if len(stages) == 1 and r.random() < 0.7:
        return stages[0]
    if len(stages) > 2 and r.random() < 0.2:
        stages = [{"type": "Sequence", key: stages[:2]}] + stages[2:]
    return {"type": "Sequence", key: stages} if stages else None


def tokens_of(r, bytes_):
    """Strings that a vocabulary may have beside single characters."""
    alphabet = CHARS if not bytes_ else [BYTE[b] for b in "abcdeABthew 12'.é中🙂\n".encode()]
    return ["".join(r.choice(alphabet) for _ in range(r.choice([2, 2, 2, 3, 4]))) for _ in range(r.randint(5, 120))]


def bpe(r, bytes_):
    prefix, suffix = (r.choice(["", "##"]), r.choice(["", "</w>"])) if r.random() < 0.2 and not bytes_ else ("", "")
    base = list(BYTES) if bytes_ and r.random() < 0.8 else [c for c in (BYTES if bytes_ else sorted(set("".join(CHARS)))) if r.random() < r.choice([0.8, 1, 1])]
    vocab = {}
    add = lambda token: vocab.setdefault(token, len(vocab))
    forms = [base]
    if prefix or suffix:
        forms = [base, [prefix + c for c in base], [c + suffix for c in base], [prefix + c + suffix for c in base]]
    for form in forms:
        for c in form:
            add(c)
    common = [BYTE[b] for b in "the word ab é 12".encode()] if bytes_ else list("theword ab▁e12")
    likely = [t for t in vocab if t.removeprefix(prefix).removesuffix(suffix) in common] or list(vocab)
    merges, parts = [], list(vocab)
    for _ in range(r.randint(0, 150)):
        left, right = r.choice(likely if r.random() < 0.8 else parts), r.choice(likely if r.random() < 0.8 else parts)
        if prefix and not right.startswith(prefix) or suffix and left.endswith(suffix) or (left, right) in merges:
            continue
        joined = left + right[len(prefix):]
        if len(joined) > 12:
            continue
        add(joined)
        merges.append((left, right))
        likely.append(joined)
    model = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": prefix or None, "end_of_word_suffix": suffix or None, "fuse_unk": flag(r), "byte_fallback": False,
             "ignore_merges": r.random() < 0.3, "vocab": vocab, "merges": [list(m) for m in merges] if flag(r) or any(" " in a + b for a, b in merges) else [f"{a} {b}" for a, b in merges]}
    if r.random() < 0.6:
        add("<unk>")
        model["unk_token"] = "<unk>"
    if r.random() < 0.3 and not prefix and not suffix:  # upstream spells the affixes in bytes too
        model["byte_fallback"] = True
        for b in range(r.choice([256, 256, 0xC0])):
            add(f"<0x{b:02X}>")
    if r.random() < 0.3:
        for token in tokens_of(r, bytes_):  # reached by ignore_merges only
            add(token)
    return model


def wordpiece(r, bytes_):
    prefix = r.choice(["##", "##", "", "▁", "@@"])
    vocab = {"[UNK]": 0}
    for c in CHARS:
        if r.random() < 0.8:
            vocab.setdefault(c, len(vocab))
        if r.random() < 0.8:
            vocab.setdefault(prefix + c, len(vocab))
    for token in tokens_of(r, bytes_):
        vocab.setdefault(r.choice(["", prefix]) + token, len(vocab))
    return {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": prefix, "max_input_chars_per_word": r.choice([100, 3, 8, 1]), "vocab": vocab}


def wordlevel(r, bytes_):
    vocab = {"<unk>": 0}
    for token in CHARS + tokens_of(r, bytes_) + WORDS:
        if token and r.random() < 0.7:
            vocab.setdefault(token, len(vocab))
    return {"type": "WordLevel", "vocab": vocab, "unk_token": "<unk>"}


def unigram(r, bytes_):
    rows, seen = [["<unk>", 0.0]], {"<unk>"}
    score = r.choice([lambda: round(-r.random() * 10, 2), lambda: -r.random() * 10, lambda: -float(r.randint(1, 4))])
    fallback = r.random() < 0.4
    for token in (CHARS if not bytes_ else list(BYTES)) + tokens_of(r, bytes_) + WORDS + [f"<0x{b:02X}>" for b in range(256 if fallback and flag(r) else 0)]:
        if token and token not in seen and r.random() < 0.8 + 0.2 * token.startswith("<0x"):
            seen.add(token)
            rows.append([token, score()])
    return {"type": "Unigram", "unk_id": 0 if r.random() < 0.9 else None, "vocab": rows, "byte_fallback": fallback}


def added_tokens(r, vocab):
    """Ids as upstream gives them: a file that says others is put right as it is read."""
    out, next_ = [], len(vocab)
    for content in dict.fromkeys(r.choice(WORDS + ["<s>", "[PAD]", "  ", "<|x|>", "word\n", "Ab"] + list(vocab)[:5]) for _ in range(r.choice([0, 1, 3, 8]))):
        id_ = vocab.get(content)
        if id_ is None:
            id_, next_ = next_, next_ + 1
        out.append({"id": id_, "content": content, "single_word": r.random() < 0.3, "lstrip": r.random() < 0.3, "rstrip": r.random() < 0.3, "normalized": flag(r), "special": flag(r)})
    return sorted(out, key=lambda row: row["id"])


def post_processor(r, vocab, depth=0):
    some = lambda: r.choice(list(vocab.items()))
    template = lambda: {"type": "TemplateProcessing", **templates(r, vocab)}
    return r.choice([
        lambda: None, template, template,
        lambda: {"type": "BertProcessing", "sep": list(some()), "cls": list(some())},
        lambda: {"type": "RobertaProcessing", "sep": list(some()), "cls": list(some()), "trim_offsets": flag(r), "add_prefix_space": flag(r)},
        lambda: {"type": "ByteLevel", "add_prefix_space": flag(r), "trim_offsets": flag(r), "use_regex": flag(r)},
        lambda: {"type": "Sequence", "processors": [p for p in (post_processor(r, vocab, 1) for _ in range(2)) if p]} if depth == 0 else template(),
    ])()


def templates(r, vocab):
    special = dict(r.sample(list(vocab.items()), min(3, len(vocab))))
    token = lambda: {"SpecialToken": {"id": r.choice(list(special)), "type_id": r.choice([0, 0, 1, 2])}}
    some = lambda: [token() for _ in range(r.choice([0, 1, 1, 2]))]
    text = lambda name: [{"Sequence": {"id": name, "type_id": r.choice([0, 1, 1, 3])}}]
    pair = some() + text("A") + some() + text("B") + some()
    return {"single": some() + text("A") + some(), "pair": pair,
            "special_tokens": {name: {"id": name, "ids": [id_] if r.random() < 0.8 else [id_, special[r.choice(list(special))]], "tokens": [name] * 1} for name, id_ in special.items()}}


def fix_templates(stage):
    for part in walk(stage):
        for row in (part.get("special_tokens") or {}).values() if part.get("type") == "TemplateProcessing" else ():
            row["tokens"] = [row["id"]] * len(row["ids"])
    return stage


def decoder(r):
    return r.choice([
        lambda: {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        lambda: {"type": "WordPiece", "prefix": r.choice(["##", "@@"]), "cleanup": flag(r)},
        lambda: {"type": "Metaspace", "replacement": r.choice(["▁", "_"]), "prepend_scheme": r.choice(["first", "never", "always"]), "split": flag(r)},
        lambda: {"type": "BPEDecoder", "suffix": "</w>"},
        lambda: {"type": "ByteFallback"},
        lambda: {"type": "Fuse"},
        lambda: {"type": "Strip", "content": r.choice([" ", "a", "▁"]), "start": r.choice([0, 1, 2]), "stop": r.choice([0, 1, 2])},
        lambda: {"type": "Replace", "pattern": pattern(r), "content": r.choice(["", " ", "x"])},
        lambda: {"type": "CTC", "pad_token": r.choice(["a", "<unk>"]), "word_delimiter_token": "|", "cleanup": flag(r)},
    ])()


def make(r):
    bytes_ = r.random() < 0.3
    last = []
    if bytes_:
        last = [{"type": "ByteLevel", "add_prefix_space": flag(r), "trim_offsets": flag(r), "use_regex": flag(r)}]
    model = r.choice([bpe, bpe, wordpiece, wordlevel, unigram])(r, bytes_)
    vocab = dict(model["vocab"]) if isinstance(model["vocab"], dict) else {row[0]: i for i, row in enumerate(model["vocab"])}
    made = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added_tokens(r, vocab)}
    if r.random() < 0.1:
        made["truncation"] = {"direction": "Left", "max_length": 3, "strategy": "LongestFirst", "stride": 1}
        made["padding"] = {"strategy": {"Fixed": 7}, "direction": "Left", "pad_to_multiple_of": 4, "pad_id": 0, "pad_type_id": 1, "pad_token": "<unk>"}
    normal_byte = [{"type": "ByteLevel"}] if bytes_ and r.random() < 0.15 else []
    made["normalizer"] = sequence(r, normalizer, "normalizers", [0, 0, 1, 1, 2, 3], normal_byte)
    made["pre_tokenizer"] = sequence(r, pre_tokenizer, "pretokenizers", [0, 0, 1, 1, 2] if not normal_byte else [0], last if not normal_byte else [])
    made["post_processor"] = fix_templates(post_processor(r, vocab))
    made["decoder"] = sequence(r, decoder, "decoders", [0, 1, 1, 2, 3])
    made["model"] = model
    return made


def run(number, work, tally):
    r = random.Random(f"stages {number}")
    made = make(r)
    path = work / "tokenizer.json"
    text = json.dumps(made, ensure_ascii=False)
    path.write_text(text)
    try:
        theirs = tokenizers.Tokenizer.from_str(text)
    except Exception as error:
        return tally.leave(f"not comparable: tokenizers declines: {str(error)[:60]}")
    theirs.no_padding(), theirs.no_truncation()
    normal = [theirs.normalizer.normalize_str(row["content"]) for row in made["added_tokens"] if row["normalized"]] if theirs.normalizer else []
    if "" in normal or len(set(normal)) < len(normal):  # upstream finds the empty one everywhere, and of equals any
        return tally.leave("not comparable: added tokens that the normalizer makes empty or equal")
    try:
        ours = dsrt.Tokenizer(path)
    except dsrt.Error as error:
        if "UNSUPPORTED" in str(error):
            return tally.leave("refused by name: " + str(error).split("tokenizer.json: ")[-1][:120])
        return tally.case(f":{number}", False, str(error))
    problems = []
    about = {key: value for key, value in made.items() if key not in ("model", "version")}
    about["model"] = {key: value for key, value in made["model"].items() if key not in ("vocab", "merges")}
    for _ in range(12):
        given = texts.random_text(r) if r.random() < 0.7 else "".join(r.choice(CHARS + WORDS) for _ in range(r.randint(0, 25)))
        pair, special = texts.random_text(r) if r.random() < 0.25 else None, r.random() < 0.7
        try:
            wanted = theirs.encode(given, pair, add_special_tokens=special)
            wanted = wanted.ids, wanted.type_ids, wanted.offsets
        except BaseException as error:  # upstream panics
            tally.leave(f"texts not comparable: tokenizers gives up: {str(error)[:60]}")
            wanted = None
        try:
            found = ours.encode(given, pair, special)
        except dsrt.Error as error:
            found = str(error)
        if wanted is None:
            continue
        if found != wanted:
            problems.append(f"{given!r}, {pair!r}, special tokens {special}: " + difference(found, wanted))
        size = theirs.get_vocab_size() + 2
        for ids in (wanted[0], [r.randrange(size) for _ in range(r.randint(0, 12))]):
            skip = flag(r)
            try:
                back = theirs.decode(ids, skip_special_tokens=skip)
            except BaseException as error:  # upstream panics
                tally.leave(f"rows of ids not comparable: tokenizers gives up: {str(error)[:60]}")
                continue
            try:
                again = ours.decode(ids, skip)
            except dsrt.Error as error:
                again = str(error)
            if back != again:
                problems.append(f"decoding {ids}, skipping special tokens {skip}\n      libdsrt {again[:300]!r}\n      peer    {back[:300]!r}")
    tally.case(f":{number} {json.dumps(about, ensure_ascii=False)[:1500]}", not problems, *problems[:3])


def difference(found, wanted):
    """The first token that differs, with those around it."""
    if isinstance(found, str):
        return found
    for name, ours, theirs in zip(("ids", "type ids", "offsets"), found, wanted):
        if ours != theirs:
            at = next((i for i, (a, b) in enumerate(zip(ours, theirs)) if a != b), min(len(ours), len(theirs)))
            return f"{name} from {max(at - 2, 0)}: libdsrt {ours[max(at - 2, 0):at + 6]}, peer {theirs[max(at - 2, 0):at + 6]}"


def main():
    import tempfile
    arguments = sys.argv[1:]
    numbers = [int(a[1:]) for a in arguments if a.startswith(":")] or range(int(arguments[0]) if arguments else 500)
    tally = Tally()
    with tempfile.TemporaryDirectory() as work:
        for number in numbers:
            run(number, pathlib.Path(work), tally)
    tally.finish()


if __name__ == "__main__":
    main()
