#!/bin/sh
# called.sh SOURCE FOLDER: every function of the headers was called by a test of the ABI that ran just now: audit.c notes them in FOLDER.
set -eu
source=$1 folder=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat "$folder"/* 2>/dev/null | sort -u >"$work/called"
rm -f "$folder"/*
[ -s "$work/called" ] || { echo "nothing was noted: the tests of the ABI did not run, or are bound at start" >&2; exit 1; }
grep -hoE '^DS_API [^;]*' "$source"/include/dsrt/*.h | grep -oE '\bds_[a-z0-9_]+\(' | tr -d '(' | sort -u >"$work/headers"
comm -23 "$work/headers" "$work/called" >"$work/never"
[ ! -s "$work/never" ] || { echo "no test of the ABI calls: $(tr '\n' ' ' <"$work/never")" >&2; exit 1; }
echo "$(wc -l <"$work/headers") functions, all called"
