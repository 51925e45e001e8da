#!/bin/sh
# The CPU's kernels compile for Arm: every file of kernels/cpu that is not in x86's own instructions, by Debian's cross compiler, as CMakeLists.txt compiles them
# there. (Nothing is linked or run: that needs Debian's arm64 libraries.) Part of --full.
set -u
cd "$(dirname "$0")/.." || exit 1
cxx=aarch64-linux-gnu-g++
command -v $cxx >/dev/null || sh tests/deps.sh g++-aarch64-linux-gnu || { echo "SKIPPED aarch64: g++-aarch64-linux-gnu is not installed"; echo "0 passed, 0 failed"; exit 0; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for header in hwy fmt nlohmann xxhash.h; do ln -s "/usr/include/$header" "$work/$header"; done  # what these files include of libraries is the same for every processor
x86=$(sed -n 's/.*EXCLUDE REGEX "\/(\([a-z0-9_|]*\)).*/\1/p' CMakeLists.txt)
passed=0 failed=0
for file in kernels/cpu/*.cpp; do
    echo "$file" | grep -Eq "/($x86)\.cpp$" && continue
    if $cxx -std=c++20 -O1 -fsigned-char -Wall -Wextra -fsyntax-only -Ilib -Iinclude -I. -isystem "$work" "-DHWY_DISABLED_TARGETS=(HWY_SVE|HWY_SVE2|HWY_SVE_256|HWY_SVE2_128)" "$file" 2>"$work/log"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        grep 'error' "$work/log" | head -n 5
        echo "FAILED aarch64: $file"
    fi
done
[ $passed -gt 20 ] || { echo "FAILED aarch64: only $passed files were found"; failed=$((failed + 1)); }
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
