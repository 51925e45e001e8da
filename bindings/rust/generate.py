#!/usr/bin/env python3
"""Writes dsrt-sys/src/bindings.rs from the headers:   generate.py [--check] [INCLUDE]
--check compares instead, and fails where the committed file says something else than the headers."""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import headers  # noqa: E402

OUT = Path(__file__).resolve().parent / "dsrt-sys/src/bindings.rs"
BASE = {"void": "c_void", "char": "c_char", "int32_t": "i32", "int64_t": "i64", "uint32_t": "u32", "size_t": "usize", "float": "f32", "double": "f64",
        "ds_log_fn": "ds_log_fn", "ds_token_fn": "ds_token_fn", "ds_row_tokens_fn": "ds_row_tokens_fn", "ds_status": "ds_status"}
KEYWORDS = {"fn", "type", "in", "ref"}

HEAD = """// Generated from <dsrt/dsrt.h> by bindings/rust/generate.py. Do not edit.
use core::ffi::c_void;
use std::os::raw::c_char;

pub type ds_status = i32;
pub type ds_log_fn = Option<unsafe extern "C" fn(level: i32, component: *const c_char, message: *const c_char, user: *mut c_void)>;
pub type ds_token_fn = Option<unsafe extern "C" fn(ids: *const i32, n: usize, user: *mut c_void) -> i32>;
pub type ds_row_tokens_fn = Option<unsafe extern "C" fn(row: usize, ids: *const i32, n: usize, user: *mut c_void) -> i32>;

#[repr(C)]
#[derive(Clone, Copy)]
pub struct ds_data_source {
    pub struct_size: usize,
    pub user: *mut c_void,
    pub next: Option<unsafe extern "C" fn(user: *mut c_void, b: *mut ds_batch) -> i32>,
    pub save: Option<unsafe extern "C" fn(user: *mut c_void, json: *mut *mut c_char) -> i32>,
    pub restore: Option<unsafe extern "C" fn(user: *mut c_void, json: *const c_char) -> i32>,
    pub release: Option<unsafe extern "C" fn(user: *mut c_void)>,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct ds_optimizer_callbacks {
    pub struct_size: usize,
    pub user: *mut c_void,
    pub floats_per_element: i32,
    pub update: Option<
        unsafe extern "C" fn(
            user: *mut c_void,
            parameter: *const c_char,
            step: i64,
            lr: f64,
            weight: *mut f32,
            gradient: *const f32,
            state: *mut f32,
            n: usize,
        ) -> i32,
    >,
    pub release: Option<unsafe extern "C" fn(user: *mut c_void)>,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct ds_communicator_callbacks {
    pub struct_size: usize,
    pub user: *mut c_void,
    pub rank: i32,
    pub size: i32,
    pub send: Option<unsafe extern "C" fn(user: *mut c_void, to: i32, lane: u32, data: *const c_void, bytes: usize) -> i32>,
    pub receive: Option<unsafe extern "C" fn(user: *mut c_void, from: i32, lane: u32, data: *mut c_void, bytes: usize, wait_ms: i32) -> i32>,
    pub abort: Option<unsafe extern "C" fn(user: *mut c_void, why: *const c_char)>,
    pub release: Option<unsafe extern "C" fn(user: *mut c_void)>,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct ds_op_value {
    pub data: *mut c_void,
    pub dtype: i32,
    pub ndim: i32,
    pub shape: *const i64,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct ds_op_callbacks {
    pub struct_size: usize,
    pub user: *mut c_void,
    pub n_outputs: i32,
    pub shape: Option<
        unsafe extern "C" fn(
            user: *mut c_void,
            attrs_json: *const c_char,
            inputs: *const ds_op_value,
            n_inputs: usize,
            ndim: *mut i32,
            shapes: *mut [i64; 8],
        ) -> i32,
    >,
    pub forward: Option<
        unsafe extern "C" fn(
            user: *mut c_void,
            attrs_json: *const c_char,
            inputs: *const ds_op_value,
            n_inputs: usize,
            outputs: *const ds_op_value,
        ) -> i32,
    >,
    pub backward: Option<
        unsafe extern "C" fn(
            user: *mut c_void,
            attrs_json: *const c_char,
            inputs: *const ds_op_value,
            n_inputs: usize,
            outputs: *const ds_op_value,
            output_gradients: *const ds_op_value,
            input_gradients: *const ds_op_value,
        ) -> i32,
    >,
    pub release: Option<unsafe extern "C" fn(user: *mut c_void)>,
}
"""


def rust(t):
    if t.function:
        result = "" if t.result == "void" else f" -> {BASE[t.result]}"
        return f"Option<unsafe extern \"C\" fn({', '.join(rust(a) for a in t.arguments)}){result}>"
    name = BASE.get(t.base, t.base)
    for constant in t.pointers:
        name = ("*const " if constant else "*mut ") + name
    return name


def generate(include):
    out = [HEAD]
    for name in headers.handles(include) + ["DLManagedTensor", "DLManagedTensorVersioned"]:
        out.append(f"#[repr(C)]\npub struct {name} {{\n    _opaque: [u8; 0],\n}}\n")
    for name, value in headers.constants(include):
        out.append(f"pub const {name}: i32 = {value};")
    out.append('\nextern "C" {')
    for f in headers.functions(include):
        arguments = ", ".join(f"{n + '_' if n in KEYWORDS else n}: {rust(t)}" for n, t in f.arguments)
        result = rust(f.result)
        out.append(f"    pub fn {f.name}({arguments})" + ("" if result == "c_void" else f" -> {result}") + ";")
    return "\n".join(out + ["}", ""])


if __name__ == "__main__":
    arguments = [a for a in sys.argv[1:] if a != "--check"]
    made = generate(Path(arguments[0]) if arguments else headers.INCLUDE)
    if "--check" not in sys.argv:
        OUT.write_text(made)
    elif OUT.read_text() != made:
        import difflib
        sys.stdout.writelines(difflib.unified_diff(OUT.read_text().splitlines(True), made.splitlines(True), "committed", "headers"))
        sys.exit("bindings.rs is not what the headers say: run bindings/rust/generate.py")
