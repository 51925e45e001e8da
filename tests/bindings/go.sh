#!/bin/sh
# go.sh BUILD: the module as committed: built without the network, formatted, vetted, tested; and SWIG would write the same sources again.
. "$(dirname "$0")/common.sh"
command -v go >/dev/null || skip "there is no go"
GOFLAGS=-mod=mod GOPROXY=off GOSUMDB=off GOTOOLCHAIN=local GOCACHE=$work/cache CGO_ENABLED=1
CGO_LDFLAGS="$lazy -Wl,-rpath,$LD_LIBRARY_PATH" CGO_CXXFLAGS=$wrapper_flags
export GOFLAGS GOPROXY GOSUMDB GOTOOLCHAIN GOCACHE CGO_ENABLED CGO_LDFLAGS CGO_CXXFLAGS
if command -v ccache >/dev/null; then CC="ccache gcc" CXX="ccache g++"; export CC CXX; fi
cd "$source/bindings/go" || exit 1

case_of "gofmt" sh -c '[ -z "$(gofmt -l *.go internal/mistakes ../../examples/go)" ] || { gofmt -d *.go internal/mistakes ../../examples/go; exit 1; }'
if command -v swig >/dev/null && swig -version | grep -q 'Version 4\.1\.'; then
    rm -rf "$work/generated"
    mkdir -p "$work/generated"
    case_of "generate.sh runs" sh generate.sh "$work/generated"
    for file in native.go native_wrap.cxx native_wrap.h host.hpp; do
        case_of "internal/native/$file is what generate.sh writes; run it and commit" cmp "$work/generated/$file" "internal/native/$file"
    done
else
    echo "SKIPPED bindings/go: are the committed sources what SWIG writes: needs SWIG 4.1"
fi
case_of "go vet" go vet . ./internal/mistakes || finish
if go test -c -o "$work/tests" . >"$work/log" 2>&1 && noted "$work/tests" -test.v >"$work/log" 2>&1; then :; else failed=$((failed + 1)); tail -n 60 "$work/log"; echo "FAILED bindings/go: go test"; fi
passed=$((passed + $(grep -c '^--- PASS' "$work/log")))
case_of "mistakes" go build -o "$work/mistakes" ./internal/mistakes && program mistakes "$work/mistakes"
readme_place
{ printf 'package main\n\nimport (\n\t"fmt"\n\t"io"\n\n\t"dsrt"\n)\n\nfunc train() error {\n'; readme_program go
  printf '}\n\nfunc main() {\n\tif err := train(); err != nil {\n\t\tpanic(err)\n\t}\n}\n'; } >"$work/place/main.go"
printf 'module readme\n\ngo 1.19\n\nrequire dsrt v0.1.0\n\nreplace dsrt => %s\n' "$source/bindings/go" >"$work/place/go.mod"
readme_runs go run .
cd "$source/examples/go" && case_of "examples/go" go build -o "$work/train" . && program train "$work/train"
finish
