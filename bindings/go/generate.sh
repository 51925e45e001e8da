#!/bin/sh
# Writes internal/native from the SWIG interface. The result is committed, so that `go build` needs no SWIG.
#   generate.sh [FOLDER]     (default: internal/native beside this file)
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-$here/internal/native}
include=${DSRT_INCLUDE:-$here/../../include}
cp "$here/../swig/host.hpp" "$out/host.hpp"
cd "$here/.."  # the path of the interface stands in the result
swig -c++ -go -cgo -intgosize 64 -DSWIGWORDSIZE64 -I"$include" -Iswig -outdir "$out" -o "$out/native_wrap.cxx" swig/dsrt.i
