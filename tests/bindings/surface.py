"""examples/guide/languages.md against the headers and the sources: every function of the ABI has its row, every name that the row gives is there in that
language's sources, and what a language lacks has a reason. Each layer that calls C by name calls it; and in CALLED, where the languages' tests noted what they
call, each language has called all that it has.   surface.py SOURCE [CALLED]"""
import re
import sys
from pathlib import Path

root = Path(sys.argv[1])
sys.path.insert(0, str(root / "bindings"))
import headers  # noqa: E402

problems = []


def check(right, words):
    if not right:
        problems.append(words)


def read(*patterns):
    text = "\n".join(p.read_text() for pattern in patterns for p in sorted(root.glob(pattern)) if not p.name.endswith("_test.go"))
    return text + "\nend"


def body(text, opening, closing):
    """From a line that matches to the next one that closes it; several are put together."""
    return "\n".join(m.group(0) for m in re.finditer(rf"^{opening}.*?^{closing}", text, flags=re.S | re.M))


def has(pattern, text):
    return re.search(pattern, text, flags=re.M) is not None


SOURCES = {"C++": read("include/dsrt/cpp/*.hpp"), "Python": read("bindings/python/dsrt/*.py"), "Go": read("bindings/go/*.go"),
           "Rust": read("bindings/rust/dsrt/src/*.rs"), "Java": read("bindings/java/src/main/java/io/dsrt/*.java"), "C#": read("bindings/csharp/src/*.cs"),
           "Julia": re.sub(r'"""(.*?)"""', "", read("bindings/julia/src/[!c]*.jl", "bindings/julia/src/callbacks.jl"), flags=re.S)}


def cpp(text, owner, name):
    if not owner:
        return has(rf"^(class|struct) {name}\b", text) or has(rf"^inline \S+ {name}\(", text)
    inside = body(text, f"(class|struct) {owner} ", "};")
    return has(rf"\b{re.escape(name)}\(", inside) or name in inside and name.startswith("operator")


def python(text, owner, name):
    if not owner:
        return has(rf"^(class|def) {name}\b", text)
    return has(rf"^    (def )?{name}\b", body(text, rf"class {owner}\b", r"(?=\S)"))


def go(text, owner, name):
    return has(rf"^func \(\w* ?\*?{owner}\) {name}\(", text) if owner else has(rf"^(func|type) {name}\b", text)


def rust(text, owner, name):
    if not owner:
        return has(rf"^pub (fn|struct|enum) {name}\b", text)
    return has(rf"^    pub fn {name}\b", body(text, rf"impl(<[^>]*>)? {owner}\b[^;{{]*\{{", r"\}"))


def java(text, owner, name):
    owner = owner.split(".")
    if owner == [""]:
        return has(rf"public (final )?class {name}\b", text)
    inside = body(text, rf"public final class {owner[0]} ", r"\}")
    if len(owner) > 1:
        inside = body(inside, rf"    public (static final class|enum) {owner[1]} ", r"    \}")
    return has(rf"^\s+public [^=;]*\b{name}(\(|\b.*class)", inside) or has(rf"public (static )?(final )?class {name} ", inside)


def csharp(text, owner, name):
    if not owner:
        return has(rf"public (sealed |static )?class {name}\b", text)
    return has(rf"^    public [^=;]*\b{re.escape(name.rstrip('[]'))}(\(|\[| \{{|<)", body(text, rf"public (sealed|static) class {owner} ", r"\}"))


def julia(text, owner, name):
    return has(rf"^\s*(function )?(Base\.)?{re.escape(name)}(\(|\{{)", text) or has(rf"^@handle {name} ", text) or has(rf"^(mutable )?struct {name}\b", text)


FINDS = {"C++": cpp, "Python": python, "Go": go, "Rust": rust, "Java": java, "C#": csharp, "Julia": julia}


def there(language, name):
    """`Engine(graph)` asks for an argument of that name in the language's sources; other names for a function, method or type."""
    argument = re.fullmatch(r"(\w+)\((\w+)\)", name)
    if argument:
        return FINDS[language](SOURCES[language], "", argument.group(1)) and has(rf"\b{argument.group(2)}\b", SOURCES[language])
    parts = re.split(r"::|\.(?=\w+(?:\[\])?$)", name)
    return FINDS[language](SOURCES[language], parts[0] if len(parts) == 2 else "", parts[-1])


page = (root / "examples/guide/languages.md").read_text()
tables, _, lacks = page.partition("\n## What a language lacks")
rows, languages = {}, list(FINDS)
for line in tables.splitlines():
    if not line.startswith("| `ds_"):
        continue
    functions, *names = [cell.strip() for cell in line.strip("|").split(" | ")]
    check(len(names) == len(languages), f"{functions}: {len(names)} languages, not {len(languages)}")
    for function in re.findall(r"`(\w+)`", functions):
        check(function not in rows, f"{function} stands there twice")
        rows[function] = dict(zip(languages, (n.strip().strip("`") for n in names)))
reasons = {(f, language.strip()) for f, who in re.findall(r"^- `(ds_\w+)` \(([^)]*)\): \w", lacks, flags=re.M) for language in who.split(",")}
declared = [f.name for f in headers.functions(root / "include")]
for f in declared:
    check(f in rows, f"{f} has no row")
for f in rows:
    check(f in declared, f"{f} is not in the headers")
    for language, name in rows[f].items():
        if name == "-":
            check((f, language) in reasons, f"{f}: {language} lacks it, and no reason is given")
        elif name == "itself":
            check(f.endswith(("_destroy", "_free")), f"{f}: what {language} calls it is not said")
        else:
            check(there(language, name), f"{f}: {name} is not in {language}'s sources")
for f, language in reasons:
    check(rows.get(f, {}).get(language) == "-", f"{f}: a reason is given why {language} lacks it, but it does not")
# These three call C by name.
for language in ("C++", "Rust", "Julia"):
    for f in rows:
        if rows[f][language] != "-":
            check(has(rf"\b{f}\b", SOURCES[language]), f"{f}: {language}'s layer never calls it")
# C++'s layer is what the four of SWIG call. ds_free goes along as an address, which is bound at start.
for language in ("Python", "Go", "Rust", "Java", "C#") if len(sys.argv) > 2 else []:
    name = language.lower().replace("#", "sharp")
    noted = Path(sys.argv[2], name)
    if not noted.exists():
        check(not Path(sys.argv[2], "..", "bin", f"train-{name}").exists(), f"{language} was built, but nothing was noted of its tests")
        continue
    never = sorted({f for f in rows if rows[f][language] != "-"} - set(noted.read_text().split()) - {"ds_free"})
    check(not never, f"{language}'s tests never come to {', '.join(never)}")
    print(f"{language}: its tests were seen to call all that it has")
# It would notice.
for language in languages:
    check(not there(language, "Engine.nothing") and not there(language, "Engine::nothing") and not there(language, "nothing"), f"{language}: finds what is not there")
print("\n".join("FAILED surface: " + p for p in problems))
print(f"{len(rows) if not problems else 0} passed, {len(problems)} failed")
sys.exit(bool(problems))
