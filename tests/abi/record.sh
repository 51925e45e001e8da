#!/bin/sh
# record.sh SOURCE CC [--write]: the types, arguments and symbols that the headers give today against those of the release that is on record
# (abi/dsrt-0.1.abi), by libabigail. Additions are fine; anything that moved, went or changed fails.
# What is compared is a library of empty functions made of the headers: libdsrt.so is compiled against the same headers (C linkage: a definition
# that differs does not compile), exports.sh holds its symbols against theirs, and its own debug information would take minutes to read.
# --write makes the record anew, for a new release.
set -eu
source=$1 cc=$2
record=$source/tests/abi/dsrt-0.1.abi
for tool in abidw abidiff; do command -v $tool >/dev/null || { echo "SKIPPED abi/record: $tool is not installed (abigail-tools)"; exit 0; }; done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
{
    echo '#include <dsrt/dsrt.h>'
    for header in "$source"/include/dsrt/*.h; do
        grep -v '^ *#' "$header" | tr '\n' ' ' | sed 's:/\*[^*]*\*\+\([^/*][^*]*\*\+\)*/::g' | grep -o 'DS_API [^;]*;' | sed 's/;$/ { __builtin_trap(); }/'
    done
} >"$work/empty.c"
build() { "$cc" -g -fdebug-prefix-map="$work"=. -shared -fPIC -w -I"$1" -Wl,--version-script="$source/lib/api/dsrt.map" -Wl,-soname,libdsrt.so.0 "$work/empty.c" -o "$2"; }
build "$source/include" "$work/libdsrt.so.0"
if [ "${3:-}" = --write ]; then
    abidw --no-corpus-path --no-comp-dir-path --no-show-locs --no-elf-needed --no-architecture "$work/libdsrt.so.0" --out-file "$record"
    exit
fi
abidiff --no-added-syms --no-architecture "$record" "$work/libdsrt.so.0" >"$work/changes" || { cat "$work/changes"; echo "the ABI has changed since the release on record" >&2; exit 1; }
# The comparison must be able to fail: a field of another size.
mkdir "$work/dsrt" && cp "$source"/include/dsrt/*.h "$work/dsrt"
sed -i 's/int32_t floats_per_element;/int64_t floats_per_element;/' "$work/dsrt/options.h"
build "$work" "$work/other.so"
if abidiff --no-added-syms --no-architecture "$record" "$work/other.so" >"$work/changes"; then echo "a changed field was not noticed" >&2; exit 1; fi
grep -q floats_per_element "$work/changes" || { cat "$work/changes"; exit 1; }
echo "nothing but additions since the release on record"
