#!/bin/sh
# debs.sh BUILD: makes the Debian packages, has lintian look at them, installs them into a root of their own, compiles and runs programs against what
# lies there, and removes them: nothing may stay.
set -u
build=$1
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0 failed=0
ok() { if [ "$2" = 0 ]; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "FAILED $1"; [ -s "$work/log" ] && head -n 15 "$work/log"; fi; }
for tool in dpkg-deb dpkg-shlibdeps; do
    command -v $tool >/dev/null || { echo "SKIPPED packages: $tool is not installed"; echo "0 passed, 0 failed"; exit 0; }
done

(cd "$build" && cpack -B "$work/debs") >"$work/log" 2>&1
ok packages/are_made $?
names=$(cd "$work/debs" 2>/dev/null && for deb in *.deb; do dpkg-deb -f "$deb" Package; done | sort | tr '\n' ' ')
for name in dsrt libdsrt-dev libdsrt0; do  # and libdsrt-gloo, libdsrt-mpi, libdsrt-cuda where what they wrap is
    case " $names" in *" $name "*) ok "packages/$name" 0 ;; *) ok "packages/$name is among $names" 1 ;; esac
done
if command -v lintian >/dev/null; then
    lintian --fail-on error --tag-display-limit 0 "$work"/debs/*.deb >"$work/log" 2>&1
    ok packages/lintian_finds_no_error $?
else echo "SKIPPED packages/lintian: lintian is not installed"; fi

root=$work/root
if [ "$(id -u)" = 0 ]; then
    mkdir -p "$root/var/lib/dpkg/info" "$root/var/lib/dpkg/updates" "$root/var/lib/dpkg/triggers"
    : >"$root/var/lib/dpkg/status"
    dpkg --root="$root" --force-depends --force-script-chrootless -i "$work"/debs/*.deb >"$work/log" 2>&1
    ok packages/install $?
    PKG_CONFIG_PATH=$root/usr/lib/pkgconfig
    export PKG_CONFIG_PATH
    # shellcheck disable=SC2046  # flags are words
    cc -std=c99 -Wall "$here/../abi/install/main.c" $(pkg-config --cflags --libs dsrt) -o "$work/c" >"$work/log" 2>&1 && LD_LIBRARY_PATH=$root/usr/lib "$work/c" >>"$work/log" 2>&1
    ok packages/a_program_compiles_and_runs $?
    LD_LIBRARY_PATH=$root/usr/lib "$root/usr/bin/dsrt" --version >"$work/log" 2>&1
    ok packages/the_command_runs $?
    zcat "$root/usr/share/man/man1/dsrt.1.gz" 2>"$work/log" | grep -q '^\.SH SYNOPSIS'
    ok packages/the_man_page_is_there $?
    # shellcheck disable=SC2086
    dpkg --root="$root" --force-script-chrootless -P $names >"$work/log" 2>&1
    ok packages/purge $?
    find "$root" -path "$root/var" -prune -o -type f -print >"$work/log"
    [ ! -s "$work/log" ]
    ok packages/nothing_stays $?
else echo "SKIPPED packages/install: needs root"; fi
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
