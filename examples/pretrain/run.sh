#!/bin/sh
# Trains a small GPT from nothing on the Jargon File (Debian's package jargon-text), byte by byte, then lets it write. Ctrl-C keeps a checkpoint;
# starting again goes on from there.
set -eu
cd "$(dirname "$0")/../.."
work=examples/work
sh tests/deps.sh
cmake --preset release >/dev/null
cmake --build --preset release --target train >/dev/null
mkdir -p "$work"
if [ ! -f "$work/jargon.txt" ]; then
    part=$(mktemp -d)
    trap 'rm -rf "$part"' EXIT
    (cd "$part" && apt-get download jargon-text >/dev/null 2>&1) ||
        { echo "Debian's package jargon-text could not be downloaded; run apt-get update first" >&2; exit 1; }
    dpkg-deb -x "$part"/jargon-text_*.deb "$part"
    find "$part/usr" -name 'jargon.txt*' -type f | while read -r file; do
        case $file in *.gz) zcat "$file" ;; *) cat "$file" ;; esac
    done >"$work/jargon.part"
    [ -s "$work/jargon.part" ] || { echo "the package jargon-text does not hold the text" >&2; exit 1; }
    mv "$work/jargon.part" "$work/jargon.txt"
fi
resume=
if [ -f "$work/pretrain/checkpoints/latest" ]; then resume=--resume; fi
# shellcheck disable=SC2086
build/release/examples/train examples/pretrain/config.json --output "$work/pretrain" --steps 600 --eval-every 100 --eval-rows 40 --save-every 100 \
    --title "A small GPT on the Jargon File" --generate "hacker: " $resume "$@"
