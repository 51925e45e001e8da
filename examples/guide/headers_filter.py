"""The C headers as Doxygen reads them: plain comments become its own kind, and declarations that share one comment each get it.
As a program: headers_filter.py HEADER (Doxygen's INPUT_FILTER). As a module: members(text), for the test that nothing is left without words."""
import re
import sys

DECLARATION = re.compile(r"^(?:DS_API\b|typedef\b|#define DS_ABI_)")
NAME = [re.compile(p) for p in (r"^#define (DS_ABI_\w+)", r"^DS_API[^(]*\b(ds_\w+)\(", r"^typedef [^;{]*\(\*(\w+)\)", r"^typedef struct \w+ (\w+);", r"^typedef struct (\w+) \{", r"^typedef .*\b(\w+);")]


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
            yield ("blank" if not line.strip() else "line"), line
        at += 1


def plain(comment):
    return re.sub(r"^\s*/\*+<?|\*/\s*$", "", comment).strip()


def trailing(line):
    found = re.search(r"/\*(.*?)\*/\s*$", line)
    return found.group(1).strip() if found else ""


def walk(text):
    """(line, name or None, comment): every piece, with what it declares and the words that are said of it."""
    said, inside = "", None
    for kind, piece in pieces(text):
        if kind == "comment":
            said = plain(piece)
            yield piece, None, said
        elif kind == "blank":
            said = "" if inside is None else said
            yield piece, None, ""
        elif inside is not None:
            if piece.startswith("}"):
                inside, said = None, ""
                yield piece, None, ""
            else:
                field = re.match(r"^\s+(?!\s)[\w ]+[ *](?:\(\*)?(\w+)(?:\)\(.*)?[;,]", piece)
                yield piece, f"{inside}.{field.group(1)}" if field else None, trailing(piece) or said
                if field:
                    said = said if not trailing(piece) else ""
        else:
            name = name_of(piece) if DECLARATION.match(piece) else None
            yield piece, name, trailing(piece) or said
            if piece.startswith("typedef struct") and piece.rstrip().endswith("{"):
                inside, said = name, ""


def members(text):
    return [(name, comment) for _, name, comment in walk(text) if name and not name.endswith(".user") and not name.endswith(".struct_size")]


def for_doxygen(text):
    out, last = [], None
    for piece, name, comment in walk(text):
        if piece.lstrip().startswith("/*"):
            last = comment
            out.append(re.sub(r"/\*", "/**" if any("/**" in o for o in out) else r"/** \\file\n ", piece, count=1))
        elif name and name.endswith(".user") and not trailing(piece):
            out += ["/** handed to each of the functions */", piece]
        elif name and trailing(piece):
            out.append(re.sub(r"/\*(.*?)\*/\s*$", r"/**<\1*/", piece))
        elif name and comment and comment != last:
            out += [f"/** {comment} */", piece]
        elif name and comment:
            out.append(piece)
            last = None  # the next one of these lines gets the words again
        else:
            out.append(piece)
    return "\n".join(out)


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as header:
        print(for_doxygen(header.read()))
