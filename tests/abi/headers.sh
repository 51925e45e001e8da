#!/bin/sh
# headers.sh SOURCE CC CXX: every header compiles alone, without a warning: C99 -pedantic and C++11; dsrt.hpp as C++17 and C++20.
set -eu
include=$1/include cc=$2 cxx=$3
for header in "$include"/dsrt/*.h; do
    name=dsrt/$(basename "$header")
    echo "#include <$name>" | "$cc" -x c -std=c99 -pedantic-errors -Wall -Wextra -Werror -fsyntax-only -I"$include" -
    echo "#include <$name>" | "$cxx" -x c++ -std=c++11 -pedantic-errors -Wall -Wextra -Werror -fsyntax-only -I"$include" -
done
for standard in 17 20; do
    echo "#include <dsrt/dsrt.hpp>" | "$cxx" -x c++ -std=c++$standard -pedantic-errors -Wall -Wextra -Wshadow -Werror -fsyntax-only -I"$include" -
done
