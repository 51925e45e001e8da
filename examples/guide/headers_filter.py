"""The C headers as Doxygen reads them: what stands before a declaration, or on its line, in Doxygen's own kind of comment; declarations that share one comment
each get it; what belongs to no declaration becomes part of the file's page.
As a program: headers_filter.py FILE (Doxygen's INPUT_FILTER; in Markdown it mends what Doxygen reads otherwise than others do). As a module: members(text), for
the test that nothing is left without words."""
import re
import sys

DECLARATION = re.compile(r"^(?:DS_API\b|typedef\b|#define DS_ABI_)")
NAME = [re.compile(p) for p in (r"^#define (DS_ABI_\w+)", r"^DS_API[^(]*\b(ds_\w+)\(", r"^typedef [^;{]*\(\*(\w+)\)", r"^typedef struct \w+ (\w+);", r"^typedef struct (\w+) \{", r"^typedef .*\b(\w+);")]
FIELD = re.compile(r"^\s+[\w ]+[ *](?:\(\*)?(\w+)(?:\)\(.*)?[;,]")
CONSTANT = re.compile(r"\b(DS_\w+) *=")
TRAILING = re.compile(r"\s*/\*(.*?)\*/\s*$")


def name_of(line):
    return next((m.group(1) for p in NAME if (m := p.match(line))), None)


def pieces(text):
    """(kind, text): comments, lines and blank lines, in their order."""
    lines, at = text.split("\n"), 0
    while at < len(lines):
        line = lines[at]
        if line.lstrip().startswith("/*"):
            begin = at
            while "*/" not in lines[at]:
                at += 1
            yield "comment", "\n".join(lines[begin:at + 1])
        else:
            yield ("line" if line.strip() else "blank"), line
        at += 1


def plain(comment):
    """A comment's words, each line as far in as it is behind the first one."""
    margin = comment.index("/*") + 3
    lines = [re.sub(rf"^ {{0,{margin}}}", "", line) for line in comment.split("\n")]
    return re.sub(r"^\s*/\*\s*|\s*\*/\s*$", "", "\n".join(lines))


class Line:
    """A line of code (or, with words alone, a comment that no declaration took), what it declares, and what is said of that."""

    def __init__(self, code, words):
        self.code, self.words, self.names = code, words, []


def walk(text):
    out, said, struct, enum, whole = [], None, None, False, True  # said: the comment above; whole: the last declaration has ended
    for kind, piece in pieces(text):
        if kind == "comment":
            said = Line("", plain(piece))
            out.append(said)
            continue
        if kind == "blank":
            said = said if struct or enum else None
            continue
        on_line = TRAILING.search(piece)
        line = Line(TRAILING.sub("", piece), on_line.group(1).strip() if on_line else "")
        code, above = line.code, said.words if said else ""
        takes = False  # what stands above
        if code.startswith("}"):
            struct = said = None
            enum = False
        elif enum:
            line.names = CONSTANT.findall(code)
        elif struct:
            takes = whole and bool(field := FIELD.match(code))
            line.names = [f"{struct}.{field.group(1)}"] if takes else []
        elif code.startswith("enum {"):
            line.names, takes, enum = [code], True, "}" not in code
        elif DECLARATION.match(code):
            name, takes = name_of(code), True
            line.names = [name] if name else []
            struct = name if code.endswith("{") else None
        if takes and said and not line.words:
            line.words = above
            out = [other for other in out if other is not said]
        if takes and (struct or enum):
            said = None  # what stands above a struct, an enum or a field says nothing of the next one
        whole = code.endswith((";", "{", "}"))
        out.append(line)
    return out


def members(text):
    """(name, words): all that the header declares, but for the sizes that structs begin with."""
    return [(name, line.words) for line in walk(text) for name in line.names if not name.endswith(".struct_size")]


def marked(words):
    """Words as Doxygen's Markdown: nothing outside of `code` is a command, and lines that are further in are a list of terms."""
    words = re.sub(r"\n?SPDX-License-Identifier:.*", "", words)
    parts = words.split("`")
    parts[::2] = [re.sub(r"([\\@#%<>*])", r"\\\1", part).replace("&", "&amp;") for part in parts[::2]]
    parts[::2] = [re.sub(r"\b(ds_\w+|DS_\w+)", r"#\1", part) for part in parts[::2]]  # links
    out, margin, bullets = [], 0, False
    for line in "`".join(parts).split("\n"):
        inward = len(line) - len(line.lstrip())
        if inward == 0:
            bullets = line.startswith("- ")
        if inward < 2 or bullets:
            if margin:
                out.append("</dd></dl>\n")
            margin = 0
            out.append(line)
            continue
        if inward > margin > 0:
            out.append(line.strip())
            continue
        term, _, meaning = line.strip().partition("  ")
        out.append(("</dd>" if margin else "<dl>") + f"<dt><tt>{term}</tt></dt><dd>{meaning.strip()}")
        margin = inward
    return "\n".join(out + ["</dd></dl>"] * (margin > 0))


def for_doxygen(text):
    lines = walk(text)
    out = ["/** \\file", "\n\n".join(marked(line.words) for line in lines if not line.code), "*/"]
    for line in lines:
        if line.code:
            out += [f"/** {marked(line.words)} */"] * bool(line.names and line.words) + [line.code]
    return "\n".join(out)


def markdown(text):
    text = re.sub(r"\*\*(`.+?)\*\*", r"<b>\1</b>", text)  # bold words that begin with code
    return re.sub(r"^# (.*\w#)$", r"\1\n===", text, flags=re.M)  # a title that ends in C#


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as file:
        text = file.read()
    print(markdown(text) if sys.argv[1].endswith(".md") else for_doxygen(text))
