#!/bin/sh
# ways.sh BUILD CC CXX: hosts that are linked in other ways than the usual, against the library in BUILD: each trains, and an exception passes.
set -u
build=$(cd "$1" && pwd) cc=$2 cxx=$3
here=$(cd "$(dirname "$0")" && pwd)
include=$here/../../include
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0 failed=0
library="-L$build -ldsrt -Wl,-rpath,$build"

# way NAME COMMAND...: the command builds $work/host, which must run.
way() {
    name=$1
    shift
    rm -f "$work/host"
    if "$@" >"$work/log" 2>&1 && "$work/host" >>"$work/log" 2>&1; then passed=$((passed + 1)); else
        failed=$((failed + 1))
        tail -n 5 "$work/log"
        echo "FAILED embed/ways: $name"
    fi
}
host() { "$@" -I"$include" -o "$work/host" $library; }

# The C++ host sits in an archive of its own, with its C++ run time inside.
archive() {
    "$cxx" -std=c++17 -O1 -c -I"$include" "$here/host.cpp" -o "$work/host.o" && ar rcs "$work/libhost.a" "$work/host.o" &&
        "$cxx" -static-libstdc++ -static-libgcc -Wl,--whole-archive "$work/libhost.a" -Wl,--no-whole-archive -o "$work/host" $library
}
# A plug-in that needs libdsrt, loaded by a program that knows nothing of it.
plugin() {
    "$cxx" -std=c++17 -shared -fPIC -DPLUGIN -I"$include" "$here/host.cpp" -o "$work/plugin.so" $library &&
        printf '#include <dlfcn.h>\nint main(void) { void *p = dlopen("%s", RTLD_NOW | RTLD_LOCAL); int (*run)(void); if (!p) return 9; *(void **)&run = dlsym(p, "run"); return run(); }\n' "$work/plugin.so" >"$work/loader.c" &&
        "$cc" "$work/loader.c" -o "$work/host" -ldl
}
# Two parts of a host, each linked to the library, one of them by way of the other.
two_parts() {
    "$cxx" -std=c++17 -shared -fPIC -DPLUGIN -I"$include" "$here/host.cpp" -o "$work/libpart.so" $library &&
        printf '#include <dsrt/dsrt.h>\nint run(void);\nint main(void) { return run() || ds_abi_version() == 0; }\n' >"$work/both.c" &&
        "$cc" -I"$include" "$work/both.c" -o "$work/host" "-L$work" -lpart "-Wl,-rpath,$work" $library
}
compilers="$cc:$cxx"
if command -v clang >/dev/null && command -v clang++ >/dev/null; then compilers="$compilers clang:clang++"; else echo "SKIPPED embed/ways: hosts built by clang: there is no clang"; fi
for pair in $compilers; do
    cc=${pair%%:*} cxx=${pair##*:}
    way "$cxx: plain" host "$cxx" -std=c++17 -Wall -Wextra -Werror "$here/host.cpp"
    way "$cxx: C++20, static C++ run time" host "$cxx" -std=c++20 -static-libstdc++ -static-libgcc "$here/host.cpp"
    way "$cxx: every symbol bound at start, no PLT" host "$cxx" -std=c++17 -fno-plt -Wl,-z,now "$here/host.cpp"
    way "$cxx: not position-independent" host "$cxx" -std=c++17 -no-pie -fno-pie "$here/host.cpp"
    if echo 'int main() {}' | "$cxx" -x c++ -flto -O2 - -o "$work/lto" >/dev/null 2>&1; then
        way "$cxx: link-time optimisation" host "$cxx" -std=c++17 -O2 -flto "$here/host.cpp"
    else echo "SKIPPED embed/ways: $cxx with link-time optimisation: it cannot link that here"; fi
    way "$cxx: from a static archive" archive
    way "$cxx: a plug-in" plugin
    way "$cxx: in two parts of a host" two_parts
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
