#!/bin/sh
# What one call costs from each language: nanoseconds of ds_metric, the fastest of 20 rounds. Builds on what the bindings' tests left:
#   ctest --test-dir build/release -R bindings && sh tests/bench/calls.sh
# SWIG's wrappers (Python, Java, C#) are those of the tests, compiled without optimisation, which the figures then contain.
set -eu
cd "$(dirname "$0")/../.."
made=$PWD/build/release/languages work=$PWD/build/release/languages/calls here=$PWD/tests/bench/calls
[ -d "$made/prefix" ] || { echo "run ctest --test-dir build/release -R bindings first" >&2; exit 1; }
mkdir -p "$work"
PKG_CONFIG_PATH=$(cat "$made/pkgconfig") LD_LIBRARY_PATH=$(cat "$made/libdir"):$made/csharp/build
export PKG_CONFIG_PATH LD_LIBRARY_PATH
show() { language=$1; shift; printf '%-8s %6s ns\n' "$language" "$("$@")"; }
# shellcheck disable=SC2046
cc -O2 "$here/calls.c" $(pkg-config --cflags --libs dsrt) -o "$work/c" && show C "$work/c"
[ -d "$made/python/site" ] && show Python env PYTHONPATH="$made/python/site" /usr/bin/python3 "$here/calls.py"
if command -v go >/dev/null; then
    (cd "$here/go" && GOFLAGS=-mod=mod GOPROXY=off CGO_LDFLAGS="-Wl,-rpath,$(cat "$made/libdir")" go build -o "$work/go" .) && show Go "$work/go"
fi
if command -v cargo >/dev/null; then
    cargo build --quiet --offline --release --manifest-path "$here/rust/Cargo.toml" --target-dir "$work/rust" && show Rust "$work/rust/release/calls"
fi
if [ -f "$made/java/build/dsrt.jar" ]; then show Java java -cp "$made/java/build/dsrt.jar" "$here/Calls.java"; fi
if [ -f "$made/csharp/build/Dsrt.dll" ]; then
    mcs -r:"$made/csharp/build/Dsrt.dll" "$here/Calls.cs" -out:"$made/csharp/build/Calls.exe" && show 'C#' mono "$made/csharp/build/Calls.exe"
fi
