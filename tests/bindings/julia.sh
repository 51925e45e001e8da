#!/bin/sh
# julia.sh BUILD: where there is a julia, the package's tests and the trainer. Everywhere, its source against the headers.
. "$(dirname "$0")/common.sh"
command -v python3 >/dev/null || skip "there is no python3 to read its source with"
include=$(pkg-config --variable=includedir dsrt)
case_of "src/capi.jl is what the headers declare" python3 "$source/bindings/julia/gen/generate.py" --check "$include"
# One case a function: its ccall has the header's types, in number and kind.
if python3 "$source/tests/bindings/julia_ccalls.py" "$source/bindings/julia" "$include" >"$work/log" 2>&1; then
    passed=$((passed + $(sed -n 's/^\([0-9]*\) ccalls were read$/\1/p' "$work/log")))
else
    cat "$work/log"
    failed=$((failed + 1))
fi
if command -v julia >/dev/null; then
    case_of "julia test/runtests.jl" julia --project="$source/bindings/julia" "$source/bindings/julia/test/runtests.jl"
    program train "julia --project=$source/bindings/julia examples/julia/train.jl"
else
    echo "SKIPPED bindings/julia: running it: there is no julia (Debian 12 has none). What was checked is that every ccall has the headers' signature"
fi
finish
