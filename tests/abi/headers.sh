#!/bin/sh
# headers.sh SOURCE CC CXX: every header compiles alone, without a warning: C99 -pedantic, C++11 and C++20; dsrt.hpp as C++17 and C++20; by the
# build's compiler and by clang. Each header of cpp/ compiles alone too.
set -eu
include=$1/include
compile() { # compile CC CXX
    for header in "$include"/dsrt/*.h; do
        name=dsrt/$(basename "$header")
        echo "#include <$name>" | "$1" -x c -std=c99 -pedantic-errors -Wall -Wextra -Werror -fsyntax-only -I"$include" -
        for standard in 11 20; do
            echo "#include <$name>" | "$2" -x c++ -std=c++$standard -pedantic-errors -Wall -Wextra -Werror -fsyntax-only -I"$include" -
        done
    done
    for standard in 17 20; do
        echo "#include <dsrt/dsrt.hpp>" | "$2" -x c++ -std=c++$standard -pedantic-errors -Wall -Wextra -Wshadow -Werror -fsyntax-only -I"$include" -
    done
}
compile "$2" "$3"
for header in "$include"/dsrt/cpp/*.hpp; do
    echo "#include <dsrt/cpp/$(basename "$header")>" | "$3" -x c++ -std=c++17 -Werror -fsyntax-only -I"$include" -
done
if command -v clang >/dev/null && command -v clang++ >/dev/null; then compile clang clang++; else echo "SKIPPED abi/headers: by clang: it is not installed"; fi
