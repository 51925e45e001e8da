"""Scores what takes no learning, on the rows that a task tests with: baseline.py TASK, from the project's root, after the task's data is there.
ner: what training rows call a name is one. qa: the first year or name of the context. translation: the source as it is, and the translation of the
training message that shares the most words. sentiment-lstm: the more frequent class. Scores are the library's (ds_score)."""
import collections
import ctypes
import json
import pathlib
import re
import sys


def score(metric, predictions, references):
    library = ctypes.CDLL("build/release/libdsrt.so")
    library.ds_last_error.restype = ctypes.c_char_p
    scores = ctypes.c_char_p()
    if library.ds_score(metric.encode(), json.dumps(predictions).encode(), json.dumps(references).encode(), ctypes.byref(scores)) < 0:
        sys.exit(library.ds_last_error().decode())
    return json.loads(scores.value)


def ner(learned, tested):
    names, others = collections.defaultdict(collections.Counter), collections.Counter()
    for row in learned:
        words, tags, at = [w.lower() for w in row["words"]], row["tags"], 0
        while at < len(words):
            end = at + 1
            if tags[at] == "O":
                others[words[at]] += 1
            else:
                while end < len(words) and tags[end].startswith("I-"):
                    end += 1
                names[tuple(words[at:end])][tags[at][2:]] += 1
            at = end
    found = []
    for row in tested:
        words, tags, at = [w.lower() for w in row["words"]], [], 0
        while at < len(words):
            spans = [tuple(words[at:end]) for end in range(min(len(words), at + 6), at, -1)]
            name = next((s for s in spans if s in names and sum(names[s].values()) > (others[s[0]] if len(s) == 1 else 0)), None)
            kind = names[name].most_common(1)[0][0] if name else ""
            tags += [f"B-{kind}"] + [f"I-{kind}"] * (len(name) - 1) if name else ["O"]
            at += len(name) if name else 1
        found.append(tags)
    return {"names of the training rows": score("spans", found, [row["tags"] for row in tested])["f1"]}


def qa(learned, tested):
    """Of a text without its title: the first year where a time is asked for, else the first words with capitals that do not begin it."""
    found = []
    for row in tested:
        text = row["context"].split(": ", 1)[1]
        year, name = re.search(r"\b(19|20)\d\d\b", text), re.search(r"(?<=\s)[A-Z][\w.'-]*( [A-Z][\w.'-]*)*", text)
        first = year if row["question"].startswith("When") and year else name
        found.append(first[0].rstrip(".") if first else "")
    scores = score("squad", found, [row["answers"]["text"] for row in tested])
    return {"the first year or name": f"exact_match {scores['exact_match']:.2f}, f1 {scores['f1']:.2f}"}


def translation(learned, tested):
    places = collections.defaultdict(set)
    for i, (source, _) in enumerate(learned):
        for word in source.lower().split():
            places[word].add(i)
    nearest = []
    for source, _ in tested:
        words = set(source.lower().split())
        shared = collections.Counter(i for word in words if len(places[word]) < 2000 for i in places[word])
        alike = lambda i: shared[i] / len(words | set(learned[i][0].lower().split()))
        nearest.append(learned[max(shared, key=alike)][1] if shared else source)
    references = [target for _, target in tested]
    return {"the source itself": score("bleu", [source for source, _ in tested], references)["bleu"], "the nearest training message": score("bleu", nearest, references)["bleu"]}


def sentiment(learned, tested):
    positive = [float(row[1]) > 0 for row in tested]
    return {"the more frequent class": max(sum(positive), len(positive) - sum(positive)) / len(positive)}


TASKS = {"ner": ner, "qa": qa, "translation": translation, "sentiment-lstm": sentiment}


def main(task):
    data = json.loads(pathlib.Path(f"examples/tasks/{task}/config.json").read_text())["data"]
    lines = pathlib.Path(data["files"]).read_text(encoding="utf-8", errors="replace").rstrip("\n").split("\n")
    table = not data["files"].endswith(".jsonl")
    rows = [line.split("\t") for line in lines[task == "translation":]] if table else [json.loads(line) for line in lines]
    every = data["split"]["every"]
    for name, value in TASKS[task]([r for i, r in enumerate(rows) if (i + 1) % every], [r for i, r in enumerate(rows) if (i + 1) % every == 0]).items():
        print(f"without learning: {name}: {value if isinstance(value, str) else format(value, '.4f')}")


main(sys.argv[1])
