#!/bin/sh
# c.sh BUILD: the C example and the mistakes that every language repeats.
. "$(dirname "$0")/common.sh"
flags=$(pkg-config --cflags --libs dsrt)
# shellcheck disable=SC2086
case_of "examples/c/train.c compiles" ${CC:-cc} -std=c99 -pedantic-errors -Wall -Wextra -Werror "$source/examples/c/train.c" $flags -o "$work/train" && program train "$work/train"
# shellcheck disable=SC2086
case_of "mistakes.c compiles" ${CC:-cc} -std=c99 -pedantic-errors -Wall -Wextra -Werror "$source/tests/bindings/mistakes.c" $flags -o "$work/mistakes" && program mistakes "$work/mistakes"
finish
