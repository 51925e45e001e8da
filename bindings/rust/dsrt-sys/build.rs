//! Finds libdsrt with pkg-config. Dependents get its folder as DEP_DSRT_LIBDIR.
use std::process::Command;

fn pkg_config(argument: &str) -> String {
    let output = Command::new("pkg-config")
        .args([argument, "dsrt"])
        .output()
        .expect("pkg-config could not be started; it is needed to find libdsrt");
    if !output.status.success() {
        panic!(
            "pkg-config does not find dsrt. Install libdsrt and name the folder of its dsrt.pc in PKG_CONFIG_PATH.\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    String::from_utf8_lossy(&output.stdout).trim().to_string()
}

fn main() {
    println!("cargo:rerun-if-env-changed=PKG_CONFIG_PATH");
    println!("cargo:rerun-if-changed=build.rs");
    for flag in pkg_config("--libs").split_whitespace() {
        if let Some(folder) = flag.strip_prefix("-L") {
            println!("cargo:rustc-link-search=native={}", folder);
        } else if let Some(library) = flag.strip_prefix("-l") {
            println!("cargo:rustc-link-lib={}", library);
        }
    }
    println!("cargo:libdir={}", pkg_config("--variable=libdir"));
}
