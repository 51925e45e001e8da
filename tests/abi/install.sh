#!/bin/sh
# install.sh BUILD CC CXX CMAKE: installs the build into a fresh prefix, and compiles and runs a C99 and a C++ program against that copy, with
# pkg-config and with find_package; and README.md's own program.
set -eu
build=$1 cc=$2 cxx=$3 cmake=$4
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$cmake" --install "$build" --prefix "$work/prefix" >"$work/log" || { cat "$work/log"; exit 1; }
pc=$(find "$work/prefix" -name dsrt.pc)
PKG_CONFIG_PATH=$(dirname "$pc")
export PKG_CONFIG_PATH
flags=$(pkg-config --cflags --libs dsrt)
libdir=$(pkg-config --variable=libdir dsrt)
[ "$(pkg-config --modversion dsrt)" = 0.1.0 ]
[ -n "$(pkg-config --variable=backenddir dsrt)" ]
[ -e "$libdir/libdsrt.so.0" ]

# shellcheck disable=SC2086  # flags are words
"$cc" -std=c99 -pedantic-errors -Wall -Wextra -Werror "$here/install/main.c" $flags -Wl,-rpath,"$libdir" $DSRT_EXTRA_FLAGS -o "$work/c"
# shellcheck disable=SC2086
"$cxx" -std=c++17 -pedantic-errors -Wall -Wextra -Werror "$here/install/main.cpp" $flags -Wl,-rpath,"$libdir" $DSRT_EXTRA_FLAGS -o "$work/cpp"
"$work/c"
"$work/cpp"

mkdir "$work/readme"
sh "$here/../examples/readme.sh" "$here/../../README.md" "$cc" "$work/readme"

"$cmake" -S "$here/install" -B "$work/build" -DCMAKE_PREFIX_PATH="$work/prefix" -DCMAKE_C_COMPILER="$cc" -DCMAKE_CXX_COMPILER="$cxx" \
    -DCMAKE_C_FLAGS="$DSRT_EXTRA_FLAGS" -DCMAKE_CXX_FLAGS="$DSRT_EXTRA_FLAGS" >"$work/log" && "$cmake" --build "$work/build" >>"$work/log" || { cat "$work/log"; exit 1; }
"$work/build/c_program"
"$work/build/cpp_program"
echo "installed copy works with pkg-config and find_package"
