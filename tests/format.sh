#!/bin/sh
# The C++ sources are as clang-format 14 (Debian 12's) writes them by .clang-format; other versions write some lines otherwise. The C of include/ and tests/abi
# keeps C's way with pointers and is left as it is.
#   tests/format.sh          names what isn't
#   tests/format.sh --write  formats it
set -u
cd "$(dirname "$0")/.." || exit 1
format=$(command -v clang-format-14 || command -v clang-format)
case $("${format:-false}" --version 2>/dev/null) in
    *version\ 14.*) ;;
    *) echo "SKIPPED format: clang-format 14 is not installed"; echo "0 passed, 0 failed"; exit 0 ;;
esac
sources() {
    find lib kernels bindings/cli tests examples include/dsrt/cpp -path tests/abi -prune -o -path examples/work -prune -o \
        \( -name '*.cpp' -o -name '*.hpp' -o -name '*.h' -o -name '*.cu' -o -name '*.cuh' \) -print | sort
}
if [ "${1:-}" = --write ]; then
    sources | xargs -n 40 "$format" -i
    exit
fi
failed=0
for file in $(sources); do
    "$format" "$file" | cmp -s - "$file" || { failed=1; echo "FAILED format: $file (tests/format.sh --write)"; }
done
echo "$((1 - failed)) passed, $failed failed"
[ "$failed" = 0 ]
