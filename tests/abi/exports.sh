#!/bin/sh
# exports.sh LIBRARY SOURCE: the symbols that the library exports are those that the headers declare with DS_API, and the version script's.
set -eu
library=$1 source=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat "$source"/include/dsrt/*.h | tr '\n' ' ' | grep -oE 'DS_API [^;]*' | grep -oE '\bds_[a-z0-9_]+\(' | tr -d '(' | sort -u >"$work/headers"
nm -D --defined-only "$library" | awk '$2 != "A" {print $3}' | sed 's/@.*//' | sort -u >"$work/library"
grep -oE '^ +ds_[a-z0-9_]+;' "$source/lib/api/dsrt.map" | tr -d ' ;' | sort -u >"$work/map"
diff "$work/headers" "$work/library" || { echo "headers (<) and exported symbols (>) differ" >&2; exit 1; }
diff "$work/headers" "$work/map" || { echo "headers (<) and version script (>) differ" >&2; exit 1; }
nm -D --defined-only "$library" | grep ' ds_' | grep -v '@@DSRT_0\.' && { echo "symbols without a version" >&2; exit 1; }
[ "$(readelf -d "$library" | sed -n 's/.*SONAME.*\[\(.*\)\]/\1/p')" = libdsrt.so.0 ] || { echo "the SONAME is not libdsrt.so.0" >&2; exit 1; }
echo "$(wc -l <"$work/headers") symbols"
