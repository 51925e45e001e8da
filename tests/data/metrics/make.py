"""Makes cases.json: what seqeval, sacrebleu and torchmetrics' SQuAD answer on these texts. Run in an environment that has them:

    python tests/data/metrics/make.py

The texts are made up here: tags in every order, right and wrong answers with articles and punctuation, sentences with what the tokenizer of sacrebleu
(13a) treats in a way of its own. Values are percent, but for seqeval's, which are shares.
"""
import json
import pathlib
import random

import sacrebleu
import seqeval.metrics
from torchmetrics.functional.text import squad

HERE = pathlib.Path(__file__).resolve().parent


def spans():
    draw = random.Random(1)
    tags = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "E-PER", "S-LOC", "I-ORG"]
    for rows, wrong in [(1, 0.0), (3, 0.3), (20, 0.2), (20, 0.9), (5, 1.0)]:
        truth = [[draw.choice(tags) for _ in range(draw.randint(1, 12))] for _ in range(rows)]
        guess = [[draw.choice(tags) if draw.random() < wrong else t for t in row] for row in truth]
        yield truth, guess
    yield [["O", "O"]], [["O", "O"]]
    yield [["B-PER", "I-PER"], ["O"]], [["O", "O"], ["O"]]
    yield [["B-LOC", "I-LOC", "I-LOC"], ["B-PER"]], [["B-LOC", "I-LOC", "O"], ["B-PER"]]
    yield [["B-X-Y", "I-X-Y", "O"]], [["B-X-Y", "I-X-Y", "I-X-Z"]]


def spans_cases():
    out = []
    for truth, guess in spans():
        report = seqeval.metrics.classification_report(truth, guess, output_dict=True, zero_division=0)
        out.append({"references": truth, "predictions": guess,
                    "expected": {"precision": seqeval.metrics.precision_score(truth, guess, zero_division=0), "recall": seqeval.metrics.recall_score(truth, guess, zero_division=0),
                                 "f1": seqeval.metrics.f1_score(truth, guess, zero_division=0), "accuracy": seqeval.metrics.accuracy_score(truth, guess)},
                    "types": {k: {"precision": v["precision"], "recall": v["recall"], "f1": v["f1-score"], "support": int(v["support"])}
                              for k, v in report.items() if not k.endswith(" avg")}})
    return out


ANSWERS = [
    ("the Tower of London", ["Tower of London"]), ("The cat, an old one.", ["old cat"]), ("1,024 bytes", ["1024 bytes", "1024"]), ("no", ["yes"]),
    ("a", ["the"]), ("Ärger mit der Datei", ["ärger mit der datei"]), ("to be or not to be", ["to be to be"]), ("  spaces\tand\nlines ", ["spaces and lines"]),
    ("“quoted” text", ["quoted text"]), ("don't", ["dont"]), ("x86-64", ["x86 64"]), ("anthem", ["an them"]), ("état-major", ["Etat major", "ÉTAT MAJOR"]), ("the the", ["a an"]),
    ("日本 語", ["日本語"]), ("C++ and C", ["C"]), ("the_end", ["end"]), ("ls -l", ["ls -l file", "ls"]),
]


def squad_cases():
    out = []
    groups = [[pair] for pair in ANSWERS] + [ANSWERS]
    for group in groups:
        made = squad([{"prediction_text": p, "id": str(i)} for i, (p, _) in enumerate(group)],
                     [{"answers": {"answer_start": [0] * len(a), "text": a}, "id": str(i)} for i, (_, a) in enumerate(group)])
        out.append({"predictions": [p for p, _ in group], "references": [a for _, a in group],
                    "expected": {"exact_match": made["exact_match"].item(), "f1": made["f1"].item()}})
    return out


SENTENCES = [
    ("Die Datei wurde nicht gefunden.", "Die Datei konnte nicht gefunden werden."), ("the the the the", "the cat is on the mat"), ("It costs $1,024.50 (about €900).", "It costs $1,024.50 (approx. €900)."),
    ("a-b c-1 1-c 3-4 2.5 x.y .5 5.", "a-b c-1 1-c 3-4 2.5 x.y .5 5."), ("&quot;Hallo&quot; &amp; &lt;Welt&gt;", "\"Hallo\" & <Welt>"), ("Übergröße – ja\u00a0oder nein?", "Übergröße – ja oder nein!"),
    ("Kann %s nicht öffnen: %s", "»%s« kann nicht geöffnet werden: %s"), ("one", "one"), ("ganz anders", "nichts davon stimmt hier"), ("zeile-\numbruch und\nmehr", "zeileumbruch und mehr"),
    ("http://example.org/a_b?c=d&e=f#g", "http://example.org/a_b?c=d&e=g"), ("foo@bar.de [x] {y} ~z`", "foo@bar.de [x] {y} ~z'"), ("日本語のファイル。", "日本語のファイルです。"), ("", "nothing came"),
    ("A long sentence that is mostly right, as such sentences go in 2026.", "A long sentence that's mostly right, as such sentences go in 2026."),
]


def bleu_cases():
    out = []
    groups = [[pair] for pair in SENTENCES] + [SENTENCES, SENTENCES[:3], SENTENCES[4:9]]
    for group in groups:
        made = sacrebleu.corpus_bleu([p for p, _ in group], [[r for _, r in group]])
        out.append({"predictions": [p for p, _ in group], "references": [r for _, r in group],
                    "expected": {"bleu": made.score, "brevity_penalty": made.bp, "precisions": made.precisions, "length": made.sys_len, "reference_length": made.ref_len}})
    several = [[r for _, r in SENTENCES], [p[::-1] for p, _ in SENTENCES], ["the cat"] * len(SENTENCES)]
    made = sacrebleu.corpus_bleu([p for p, _ in SENTENCES], several)
    out.append({"predictions": [p for p, _ in SENTENCES], "references": [list(row) for row in zip(*several)],
                "expected": {"bleu": made.score, "brevity_penalty": made.bp, "precisions": made.precisions, "length": made.sys_len, "reference_length": made.ref_len}})
    return out


def main():
    cases = {"spans": spans_cases(), "squad": squad_cases(), "bleu": bleu_cases()}
    lines = [f' "{name}": [\n' + ",\n".join("  " + json.dumps(case, ensure_ascii=False) for case in group) + "\n ]" for name, group in cases.items()]
    (HERE / "cases.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print({name: len(group) for name, group in cases.items()})


if __name__ == "__main__":
    main()
