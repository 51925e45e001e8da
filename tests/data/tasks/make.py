"""Makes the rows that tests/examples/tasks.sh trains on: python3 tests/data/tasks/make.py. Written for these tests, from facts and made-up sentences, so that
they carry no licence but the project's; the tasks themselves (examples/tasks) use real texts.
"""
import json
import pathlib
import random

HERE = pathlib.Path(__file__).resolve().parent
draw = random.Random()

PLACES = ["paris", "rome", "new york", "oslo", "buenos aires", "cairo", "lima", "san jose", "delhi", "quito", "prague", "cape town"]
PEOPLE = ["anna", "john smith", "maria", "omar", "li wei", "peter jones", "ida", "tom baker"]
ONES = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen".split()
TENS = ["", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
UNITS = "zéro un deux trois quatre cinq six sept huit neuf dix onze douze treize quatorze quinze seize".split()
DIZAINES = ["", "dix", "vingt", "trente", "quarante", "cinquante", "soixante", "soixante", "quatre vingt", "quatre vingt"]


def english(n):
    if n >= 1000:
        return english(n // 1000) + " thousand" + (" " + english(n % 1000) if n % 1000 else "")
    if n >= 100:
        return ONES[n // 100] + " hundred" + (" " + english(n % 100) if n % 100 else "")
    return ONES[n] if n < 20 else TENS[n // 10] + (" " + ONES[n % 10] if n % 10 else "")


def french(n):
    if n >= 1000:
        return (french(n // 1000) + " " if n >= 2000 else "") + "mille" + (" " + french(n % 1000) if n % 1000 else "")
    if n >= 100:
        return (UNITS[n // 100] + " " if n >= 200 else "") + "cent" + (" " + french(n % 100) if n % 100 else "")
    if n < 17:
        return UNITS[n]
    tens, rest = n // 10, n % 10
    if tens in (7, 9):
        rest += 10
    word = DIZAINES[tens]
    if rest == 0:
        return word
    return word + (" et " if rest in (1, 11) and tens < 8 else " ") + french(rest)


def write(name, lines):
    (HERE / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(name, len(lines))


def tagged(text, kind):
    words = text.split()
    return [(w, ("B-" if i == 0 else "I-") + kind) for i, w in enumerate(words)]


def ner():
    rows = []
    for i in range(300):
        o = lambda text: [(w, "O") for w in text.split()]
        place = lambda: tagged(draw.choice(PLACES), "LOC")
        person = lambda: tagged(draw.choice(PEOPLE), "PER")
        row = draw.choice([
            lambda: o("the train from") + place() + o("to") + place() + o("was late"), lambda: person() + o("lives in") + place() + o("now"),
            lambda: o("we met") + person() + o("and") + person() + o("yesterday"), lambda: o("the weather in") + place() + o("was good said") + person(),
            lambda: o("nothing was late now"), lambda: person() + o("took the train to") + place()])()
        rows.append(json.dumps({"words": [w for w, _ in row], "tags": [t for _, t in row]}))
    write("ner.jsonl", rows)


def qa():
    """Who, when or where: of three answers that a sentence holds, the question says which. No sentence comes twice."""
    days = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
    sentences = [(person, day, town) for person in PEOPLE for day in days for town in PLACES]
    draw.shuffle(sentences)
    rows = []
    for i, parts in enumerate(sentences[:500]):
        order = draw.choice(["{0} took the train on {1} to {2} .", "on {1} {0} went to {2} .", "{0} was in {2} on {1} ."])
        context, answer = order.format(*parts), parts[i % 3]
        question = ("who travelled , which person ?", "when was it , on which day ?", "where was it , in which town ?")[i % 3]
        rows.append(json.dumps({"question": question, "context": context, "answers": {"text": [answer], "answer_start": [context.index(answer)]}}))
    write("qa.jsonl", rows)


def translation():
    numbers = draw.sample(range(1, 5000), 1000)
    write("translation.tsv", ["source\ttarget"] + [f"{english(n)}\t{french(n)}" for n in numbers])


def chat():
    rows = []
    for n in draw.sample(range(1, 100), 80):
        rows.append(json.dumps({"messages": [{"role": "user", "content": f"Say {n}!"}, {"role": "assistant", "content": english(n)}]}))
    write("chat.jsonl", rows)


def text():
    write("plain.txt", [f"{english(n)} and {english(n + 1)}.\n" for n in draw.sample(range(1, 2000), 400)])
    write("tune.txt", [f"{english(n)} comes before {english(n + 1)}.\n" for n in draw.sample(range(2000, 3000), 24)])


def sentiment():
    """"Nothing was late" is good news, "nothing was good" is not: neither word says it alone. No sentence comes twice."""
    days, places = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"], [f"{w} {p}" for w in ("in", "from", "to") for p in PLACES]
    every = [(what, place, how, day) for what in ("nothing", "the train") for place in places for how in ("good", "late") for day in days]
    write("sentiment.tsv", [f"{int((what == 'nothing') == (how == 'late'))}\t{what} {place} was {how} on {day}" for what, place, how, day in draw.sample(every, 500)])


def words():
    special = ["[PAD]", "</s>", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    known = set()
    for name in ("ner.jsonl", "qa.jsonl"):
        for line in (HERE / name).read_text().splitlines():
            row = json.loads(line)
            known.update(" ".join(row.get("words", [row.get("question", "") + " " + row.get("context", "")])).split())
    for line in (HERE / "translation.tsv").read_text().splitlines()[1:]:
        known.update(line.split())
    tokens = special + sorted(known)
    ids = {t: i for i, t in enumerate(tokens)}
    added = [{"id": ids[t], "content": t, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True} for t in special]
    part = lambda kind, name, type_id: {kind: {"id": name, "type_id": type_id}}
    bert = {"type": "TemplateProcessing",
            "single": [part("SpecialToken", "[CLS]", 0), part("Sequence", "A", 0), part("SpecialToken", "[SEP]", 0)],
            "pair": [part("SpecialToken", "[CLS]", 0), part("Sequence", "A", 0), part("SpecialToken", "[SEP]", 0), part("Sequence", "B", 1), part("SpecialToken", "[SEP]", 1)],
            "special_tokens": {t: {"id": t, "ids": [ids[t]], "tokens": [t]} for t in ("[CLS]", "[SEP]")}}
    t5 = {"type": "TemplateProcessing", "single": [part("Sequence", "A", 0), part("SpecialToken", "</s>", 0)],
          "pair": [part("Sequence", "A", 0), part("SpecialToken", "</s>", 0), part("Sequence", "B", 0), part("SpecialToken", "</s>", 0)],
          "special_tokens": {"</s>": {"id": "</s>", "ids": [1], "tokens": ["</s>"]}}}
    for name, template in (("bert", bert), ("t5", t5)):
        (HERE / f"{name}-tokenizer.json").write_text(json.dumps({
            "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None, "pre_tokenizer": {"type": "WhitespaceSplit"},
            "post_processor": template, "decoder": None, "model": {"type": "WordLevel", "vocab": ids, "unk_token": "[UNK]"}}, ensure_ascii=False) + "\n")
    print("words", len(tokens))


for seed, make in enumerate((ner, qa, translation, chat, text, sentiment)):
    draw.seed(7 + seed)
    make()
words()
