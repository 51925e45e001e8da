#!/bin/sh
# prefix.sh BUILD CMAKE: installs the library to BUILD/languages/prefix, the one that all bindings are built against.
set -eu
made=$1/languages
rm -rf "$made/prefix"
mkdir -p "$made"
"$2" --install "$1" --prefix "$made/prefix" >"$made/install.log" || { cat "$made/install.log"; exit 1; }
pc=$(find "$made/prefix" -name dsrt.pc)
dirname "$pc" >"$made/pkgconfig"
PKG_CONFIG_PATH=$(dirname "$pc") pkg-config --variable=libdir dsrt >"$made/libdir"
