//! The C ABI of libdsrt, as its headers declare it. The crate `dsrt` is the safe layer above.
#![allow(non_camel_case_types, clippy::too_many_arguments)]

#[rustfmt::skip]
mod bindings;
pub use bindings::*;
