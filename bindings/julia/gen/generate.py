#!/usr/bin/env python3
"""Writes src/capi.jl from the headers:   generate.py [--check] [INCLUDE]
--check compares instead, and fails where the committed file says something else than the headers."""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))
import headers  # noqa: E402

OUT = Path(__file__).resolve().parent.parent / "src/capi.jl"
BASE = {"void": "Cvoid", "char": "UInt8", "int32_t": "Int32", "int64_t": "Int64", "uint32_t": "UInt32", "size_t": "Csize_t", "float": "Float32",
        "double": "Float64", "ds_status": "Int32", "ds_log_fn": "Ptr{Cvoid}", "ds_token_fn": "Ptr{Cvoid}",
        "ds_row_tokens_fn": "Ptr{Cvoid}"}
KEYWORDS = {"end", "begin", "in", "function"}

HEAD = """# Generated from <dsrt/dsrt.h> by bindings/julia/gen/generate.py. Do not edit.

"The library. The environment's DSRT_LIBRARY may name another file."
const libdsrt = get(ENV, "DSRT_LIBRARY", "libdsrt.so.0")

struct ds_data_source
    struct_size::Csize_t
    user::Ptr{Cvoid}
    next::Ptr{Cvoid}
    save::Ptr{Cvoid}
    restore::Ptr{Cvoid}
    release::Ptr{Cvoid}
end

struct ds_optimizer_callbacks
    struct_size::Csize_t
    user::Ptr{Cvoid}
    floats_per_element::Int32
    update::Ptr{Cvoid}
    release::Ptr{Cvoid}
end

struct ds_communicator_callbacks
    struct_size::Csize_t
    user::Ptr{Cvoid}
    rank::Int32
    size::Int32
    send::Ptr{Cvoid}
    receive::Ptr{Cvoid}
    abort::Ptr{Cvoid}
    release::Ptr{Cvoid}
end

struct ds_op_value
    data::Ptr{Cvoid}
    dtype::Int32
    ndim::Int32
    shape::Ptr{Int64}
end

struct ds_op_callbacks
    struct_size::Csize_t
    user::Ptr{Cvoid}
    n_outputs::Int32
    shape::Ptr{Cvoid}
    forward::Ptr{Cvoid}
    backward::Ptr{Cvoid}
    release::Ptr{Cvoid}
end
"""


def julia(t):
    if t.function:
        return "Ptr{Cvoid}"
    if t.base == "char" and t.pointers == [True]:
        return "Cstring"
    name = BASE.get(t.base, t.base)
    for level, _ in enumerate(t.pointers):
        name = "Ptr{Cstring}" if t.base == "char" and level == 1 and t.pointers[0] else f"Ptr{{{name}}}"
    return name


def generate(include):
    out = [HEAD]
    for name in headers.handles(include) + ["DLManagedTensor", "DLManagedTensorVersioned"]:
        out.append(f"struct {name} end")
    out.append("")
    for name, value in headers.constants(include):
        out.append(f"const {name} = Int32({value})")
    for f in headers.functions(include):
        names = [n + "_" if n in KEYWORDS else n for n, _ in f.arguments]
        types = ", ".join(julia(t) for _, t in f.arguments) + ("," if len(f.arguments) == 1 else "")
        out.append(f"\nfunction {f.name}({', '.join(names)})\n"
                   f"    ccall((:{f.name}, libdsrt), {julia(f.result)}, ({types}){''.join(', ' + n for n in names)})\nend")
    return "\n".join(out + [""])


if __name__ == "__main__":
    arguments = [a for a in sys.argv[1:] if a != "--check"]
    made = generate(Path(arguments[0]) if arguments else headers.INCLUDE)
    if "--check" not in sys.argv:
        OUT.write_text(made)
    elif OUT.read_text() != made:
        import difflib
        sys.stdout.writelines(difflib.unified_diff(OUT.read_text().splitlines(True), made.splitlines(True), "committed", "headers"))
        sys.exit("capi.jl is not what the headers say: run bindings/julia/gen/generate.py")
