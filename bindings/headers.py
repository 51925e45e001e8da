"""What <dsrt/dsrt.h> declares, as a C compiler understands it: for the generators of Rust and Julia, and for their checks."""
import re
import subprocess
import tempfile
from pathlib import Path

INCLUDE = Path(__file__).resolve().parent.parent / "include"


class CType:
    """A C type: a base name, and for each `*` from the inside whether what it points to is const."""

    def __init__(self, text):
        self.text = " ".join(text.split())
        self.function = "(*)" in self.text
        if self.function:
            self.result, args = re.fullmatch(r"(.+?) \(\*\) \((.*)\)", self.text).groups()
            self.arguments = [CType(a) for a in split(args)]
            return
        tokens = re.findall(r"\w+|\*", self.text.replace("struct ", ""))
        constant, self.base, self.pointers = False, None, []
        for t in tokens:
            if t == "const":
                constant = True
            elif t == "*":
                self.pointers.append(constant)
                constant = False
            else:
                self.base = t


class Function:
    def __init__(self, name, result, arguments):
        self.name, self.result, self.arguments = name, result, arguments  # arguments: (name, CType)


def split(arguments):
    parts, depth = [""], 0
    for c in arguments:
        depth += {"(": 1, ")": -1}.get(c, 0)
        if c == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += c
    parts = [p.strip() for p in parts]
    return [] if parts in (["void"], [""]) else parts


def text(include=INCLUDE):
    return "\n".join(p.read_text() for p in sorted(Path(include, "dsrt").glob("*.h")) if p.name != "dlpack.h")


def functions(include=INCLUDE, cc="cc"):
    """Every function of the headers. Types are the compiler's (its -aux-info), names of arguments the headers'."""
    names = {}
    for name, arguments in re.findall(r"DS_API[^;(]*\b(ds_\w+)\(([^;]*)\);", re.sub(r"/\*.*?\*/", "", text(include), flags=re.S)):
        names[name] = [re.search(r"(\w+)\s*(?:\)\s*\(.*)?$", a).group(1) for a in split(arguments)]
    with tempfile.NamedTemporaryFile("r") as aux, tempfile.NamedTemporaryFile("w", suffix=".c") as source:
        source.write("#include <dsrt/dsrt.h>\n")
        source.flush()
        subprocess.run([cc, "-aux-info", aux.name, "-fsyntax-only", f"-I{include}", source.name], check=True)
        declared = aux.read()
    found = []
    for result, name, arguments in re.findall(r"extern (.*?)(ds_\w+) \((.*)\);$", declared, flags=re.M):
        types = [CType(a) for a in split(arguments)]
        assert len(types) == len(names[name]), name
        found.append(Function(name, CType(result), list(zip(names[name], types))))
    assert {f.name for f in found} == set(names), set(names) ^ {f.name for f in found}
    return found


def constants(include=INCLUDE):
    """The enumerators: (name, value)."""
    return [(n, int(v)) for n, v in re.findall(r"\b(DS_[A-Z0-9_]+) = (-?\d+)", text(include))]


def handles(include=INCLUDE):
    return re.findall(r"^typedef struct (ds_\w+) \1;", text(include), flags=re.M)
