//! Structs that the host fills lie in memory as C has them: a C program, built from the installed header, says how that is.
use std::process::Command;

#[test]
fn structs_are_laid_out_as_in_c() {
    let folder = std::env::temp_dir().join(format!("dsrt-layout-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let source = folder.join("layout.c");
    std::fs::write(
        &source,
        "#include <dsrt/dsrt.h>\n#include <stdio.h>\n#define F(s, f) printf(\" %zu\", offsetof(s, f))\n\
         int main(void) { printf(\"%zu\", sizeof(ds_data_source)); F(ds_data_source, user); F(ds_data_source, next); F(ds_data_source, save);\
         F(ds_data_source, restore); F(ds_data_source, release); printf(\" %zu\", sizeof(ds_optimizer_callbacks)); F(ds_optimizer_callbacks, user);\
         F(ds_optimizer_callbacks, floats_per_element); F(ds_optimizer_callbacks, update); F(ds_optimizer_callbacks, release);\
         printf(\" %zu\", sizeof(ds_op_value)); F(ds_op_value, dtype); F(ds_op_value, ndim); F(ds_op_value, shape);\
         printf(\" %zu\", sizeof(ds_op_callbacks)); F(ds_op_callbacks, n_outputs); F(ds_op_callbacks, shape); F(ds_op_callbacks, forward);\
         F(ds_op_callbacks, backward); F(ds_op_callbacks, release); return 0; }\n",
    )
    .unwrap();
    let flags = Command::new("pkg-config").args(["--cflags", "dsrt"]).output().unwrap();
    let program = folder.join("layout");
    let compiled = Command::new("cc")
        .arg(&source)
        .args(String::from_utf8(flags.stdout).unwrap().split_whitespace())
        .arg("-o")
        .arg(&program)
        .status()
        .unwrap();
    assert!(compiled.success());
    let c = String::from_utf8(Command::new(&program).output().unwrap().stdout).unwrap();
    std::fs::remove_dir_all(&folder).unwrap();

    macro_rules! offsets {
        ($s:ty: $($f:ident),*) => {{
            let value = std::mem::MaybeUninit::<$s>::uninit();
            let base = value.as_ptr();
            let mut all = vec![std::mem::size_of::<$s>()];
            $(all.push(unsafe { std::ptr::addr_of!((*base).$f) as usize } - base as usize);)*
            all
        }};
    }
    let mut rust = offsets!(dsrt_sys::ds_data_source: user, next, save, restore, release);
    rust.extend(offsets!(dsrt_sys::ds_optimizer_callbacks: user, floats_per_element, update, release));
    rust.extend(offsets!(dsrt_sys::ds_op_value: dtype, ndim, shape));
    rust.extend(offsets!(dsrt_sys::ds_op_callbacks: n_outputs, shape, forward, backward, release));
    let rust: Vec<String> = rust.iter().map(|n| n.to_string()).collect();
    assert_eq!(c, rust.join(" "));
}
