#!/bin/sh
# Writes again what is generated from the headers and committed: Go's, Rust's and Julia's part of a change to include/dsrt. Needs SWIG 4.1.
set -eu
cd "$(dirname "$0")"
sh go/generate.sh
python3 rust/generate.py
python3 julia/gen/generate.py
