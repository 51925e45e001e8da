#!/bin/sh
# rust.sh BUILD: both crates, without a registry: what is committed is what the headers declare, and the tests.
. "$(dirname "$0")/common.sh"
command -v cargo >/dev/null || skip "there is no cargo"
# Calls that are bound one by one can be noted; Debian's compiler (1.63) has that option among the unstable ones.
relro="-C relro-level=partial"
if ! rustc $relro --print cfg >/dev/null 2>&1; then
    relro="-Z relro-level=partial" RUSTC_BOOTSTRAP=1
    export RUSTC_BOOTSTRAP
fi
CARGO_TARGET_DIR=$work/target CARGO_NET_OFFLINE=true RUSTFLAGS="$relro -C link-arg=$lazy"
export CARGO_TARGET_DIR CARGO_NET_OFFLINE RUSTFLAGS
audit=$build/tests/libabi_audit.so
if [ -e "$audit" ]; then runner="target.'cfg(unix)'.runner=['env', 'LD_AUDIT=$audit', 'DSRT_CALLED=$made/called/rust']"; else runner="build.incremental=false"; fi
python=$(command -v python3) && case_of "dsrt-sys/src/bindings.rs is what the headers declare" "$python" "$source/bindings/rust/generate.py" --check "$(pkg-config --variable=includedir dsrt)"
# cargo writes Cargo.lock beside Cargo.toml, so it works on a copy; the example is where it was.
rm -rf "$work/copy"
mkdir -p "$work/copy/bindings" "$work/copy/examples"
cp -r "$source/bindings/rust" "$work/copy/bindings" && cp -r "$source/examples/rust" "$work/copy/examples"
cd "$work/copy/bindings/rust" || exit 1
readme_place
{ echo 'fn main() -> dsrt::Result<()> {'; readme_program rust; printf '    Ok(())\n}\n'; } >dsrt/examples/readme.rs
case_of "cargo build" cargo build --quiet --release --examples || finish
readme_runs "$work/target/release/examples/readme"
program train "$work/target/release/examples/train"
program mistakes "$work/target/release/examples/mistakes"
if cargo test --config "$runner" --release --lib --tests >"$work/log" 2>&1; then :; else failed=$((failed + 1)); tail -n 60 "$work/log"; echo "FAILED bindings/rust: cargo test"; fi
grep '^warning' "$work/log" && { failed=$((failed + 1)); echo "FAILED bindings/rust: warnings"; }
passed=$((passed + $(grep -c '^test .* ok$' "$work/log")))
finish
