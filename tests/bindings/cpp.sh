#!/bin/sh
# cpp.sh BUILD: the C++ example and the mistakes.
. "$(dirname "$0")/common.sh"
flags="-std=c++17 -pedantic-errors -Wall -Wextra -Werror $(pkg-config --cflags --libs dsrt)"
# shellcheck disable=SC2086
case_of "examples/cpp/train.cpp compiles" ${CXX:-c++} "$source/examples/cpp/train.cpp" $flags -o "$work/train" && program train "$work/train"
# shellcheck disable=SC2086
case_of "mistakes.cpp compiles" ${CXX:-c++} "$source/tests/bindings/mistakes.cpp" $flags -o "$work/mistakes" && program mistakes "$work/mistakes"
# shellcheck disable=SC2086
case_of "wrapper.cpp compiles" ${CXX:-c++} "$source/tests/bindings/wrapper.cpp" $flags -o "$work/wrapper" && counted "$work/wrapper"
finish
