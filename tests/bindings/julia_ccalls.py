"""Julia can't run here, so its source is read: every ccall against the headers' signatures, every use of one against its number of arguments, every
struct against the headers' fields, every callback against the function that the header asks for.   julia_ccalls.py FOLDER INCLUDE"""
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent / "bindings"))
import headers  # noqa: E402

folder, include = Path(sys.argv[1]), Path(sys.argv[2])
source = {p: re.sub(r'"""(.*?)"""', '""', p.read_text(), flags=re.S) for p in sorted(folder.glob("src/*.jl"))}
declared = {f.name: f for f in headers.functions(include)}
# What a Julia type is in C, written down by hand: the generator's own table is not believed.
SCALARS = {"Int32": {"int32_t", "ds_status"}, "Int64": {"int64_t"}, "UInt32": {"uint32_t"}, "Csize_t": {"size_t"}, "Float32": {"float"}, "Float64": {"double"},
           "Cvoid": {"void"}, "UInt8": {"char"}}
passed, problems = 0, []


def fits(julia, c):
    """Whether a Julia type may stand for a C type."""
    if c.function or c.base in ("ds_log_fn", "ds_token_fn", "ds_row_tokens_fn") and not c.pointers:
        return julia == "Ptr{Cvoid}"
    depth, inner = 0, julia
    while inner.startswith("Ptr{"):
        depth, inner = depth + 1, inner[4:-1]
    if inner == "Cstring":
        depth, inner = depth + 1, "UInt8"
    return depth == len(c.pointers) and (c.base in SCALARS[inner] if inner in SCALARS else inner == c.base)


def arguments(text, start):
    """How many arguments a call has whose opening bracket is at start."""
    depth, count, at, empty = 0, 1, start, True
    while True:
        c = text[at]
        depth += {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}.get(c, 0)
        if depth == 0:
            return 0 if empty else count
        count += c == "," and depth == 1
        empty = empty and (depth == 1 and c in "( \n")
        at += 1


def check(right, words):
    global passed
    passed += bool(right)
    if not right:
        problems.append(words)


bound = set()
for path, text in source.items():
    for name, result, types, given in re.findall(r"ccall\(\(:(ds_\w+), libdsrt\), ([^,]+), \(([^()]*)\)((?:, \w+)*)\)", text):
        f = declared.get(name)
        bound.add(name)
        if not f:
            problems.append(f"{path.name}: {name} is not in the headers")
            continue
        types = [t.strip() for t in types.split(",") if t.strip()]
        check(fits(result, f.result), f"{name}: answers {f.result.text}, not {result}")
        check(len(types) == len(f.arguments) == given.count(","), f"{name}: {len(types)} types, {given.count(',')} values, {len(f.arguments)} in C")
        for julia, (argument, c) in zip(types, f.arguments):
            check(fits(julia, c), f"{name}: {argument} is {c.text}, not {julia}")
    for call in re.finditer(r"(?<![:\w])(ds_[a-z_]+)\(", text):
        if call.group(1) in declared and not text[:call.start()].endswith("function "):
            n = arguments(text, call.end() - 1)
            check(n == len(declared[call.group(1)].arguments), f"{path.name}: {call.group(1)} is called with {n} values, takes {len(declared[call.group(1)].arguments)}")
check(bound == set(declared), f"not bound: {sorted(set(declared) - bound)}")
for struct in ("ds_data_source", "ds_optimizer_callbacks", "ds_communicator_callbacks", "ds_op_value", "ds_op_callbacks"):
    body = re.search(r"typedef struct %s \{(.*?)\} %s;" % (struct, struct), headers.text(include), flags=re.S).group(1)
    in_c = re.findall(r"(?:\(\*)?(\w+)(?:\)\([^;]*\))?;", re.sub(r"/\*.*?\*/", "", body, flags=re.S))
    in_julia = re.findall(r"(\w+)::", re.search(r"struct %s\n(.*?)\nend" % struct, source[folder / "src/capi.jl"], flags=re.S).group(1))
    check(in_c == in_julia, f"{struct}: fields {in_julia}, in C {in_c}")

# Callbacks: what @cfunction makes of a Julia function, and that function's own types, are those of the C function that it stands for.
STANDS_FOR = {"on_log": "ds_log_fn", "hear_tokens": "ds_token_fn", "hear_row_tokens": "ds_row_tokens_fn", "on_update": "ds_optimizer_callbacks.update",
              "on_next": "ds_data_source.next", "on_save": "ds_data_source.save", "on_restore": "ds_data_source.restore",
              "on_op_shape": "ds_op_callbacks.shape", "on_op_forward": "ds_op_callbacks.forward", "on_op_backward": "ds_op_callbacks.backward",
              "release": "ds_data_source.release"}
plain = re.sub(r"/\*.*?\*/", "", headers.text(include), flags=re.S)
wanted = {name: (result, parameters) for result, name, parameters in re.findall(r"typedef (\w+) \(\*(\w+)\)\(([^;]*)\);", plain)}
for struct, body in re.findall(r"typedef struct (\w+) \{(.*?)\} \1;", plain, flags=re.S):
    wanted.update({f"{struct}.{field}": (result, parameters) for result, field, parameters in re.findall(r"(\w+) \(\*(\w+)\)\((.*?)\);", body, flags=re.S)})
whole = "\n".join(source.values())
made = dict((name, (result, types)) for name, result, types in re.findall(r"@cfunction\((\w+), (\w+), \(([^()]*)\)\)", whole))
check(set(made) == set(STANDS_FOR), f"callbacks {sorted(made)}, known {sorted(STANDS_FOR)}")
for name, (result, types) in made.items():
    c_result, parameters = wanted[STANDS_FOR.get(name, "ds_log_fn")]
    types = re.findall(r"\w+(?:\{[^ ]*\})?", types)
    annotated = re.search(r"function %s\((.*?)\)::(\w+)" % name, whole)
    own = re.findall(r"::(\w+(?:\{[^ ]*\})?)", annotated.group(1))
    check(own == types and annotated.group(2) == result, f"{name}: takes {own}, @cfunction says {types}")
    check(fits(result, headers.CType(c_result)), f"{name}: answers {result}, in C {c_result}")
    parameters = headers.split(" ".join(parameters.split()))
    check(len(parameters) == len(types), f"{name}: {len(types)} arguments, in C {len(parameters)}")
    for julia, c in zip(types, parameters):
        array = re.fullmatch(r"int64_t \(\*\w+\)\[(\d+)\]", c)
        right = julia == f"Ptr{{NTuple{{{array.group(1)},Int64}}}}" if array else fits(julia, headers.CType(re.sub(r"\w+$", "", c)))
        check(right, f"{name}: {c} in C is not {julia}")
for name, value in headers.constants(include):
    check(f"const {name} = Int32({value})\n" in source[folder / "src/capi.jl"], f"{name} is not {value}")
print("\n".join("FAILED julia: " + p for p in problems))
print(f"{len(bound)} ccalls were read")
print(f"{passed} passed, {len(problems)} failed")
sys.exit(bool(problems))
