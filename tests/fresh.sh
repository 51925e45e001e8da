#!/bin/sh
# Proves README.md's two commands on a bare machine: makes a minimal Debian 12 with debootstrap in a folder, copies this tree's committed files into it,
# and runs them there, as a stranger would. Needs root and Debian's packages; part of --full.
#   tests/fresh.sh [--keep] [COMMAND...]     (default: both of README.md's; with "--quick" for the suite, since it runs in full outside)
# FRESH names the folder (default build/fresh); MIRROR the Debian mirror (default: the first that this machine's apt uses).
set -u
source=$(cd "$(dirname "$0")/.." && pwd)
root=${FRESH:-$source/build/fresh}
passed=0 failed=0 keep=0
if [ "${1:-}" = --keep ]; then keep=1; shift; fi
skip() { echo "SKIPPED fresh: $1"; echo "0 passed, 0 failed"; exit 0; }
[ "$(id -u)" = 0 ] || skip "debootstrap and chroot need root"
command -v debootstrap >/dev/null || sh "$source/tests/deps.sh" debootstrap || skip "debootstrap is not installed"
. "$source/tests/support/chroot.sh"
make_debian "$root" || { echo "FAILED fresh: debootstrap (log: $root.log)"; tail -n 5 "$root.log"; echo "0 passed, 1 failed"; exit 1; }
trap 'leave_debian "$root"; [ "$keep" = 1 ] || rm -rf --one-file-system "$root"' EXIT
mkdir -p "$root/home/libdsrt"
git -C "$source" archive HEAD | tar -x -C "$root/home/libdsrt" || { echo "FAILED fresh: copying the tree"; exit 1; }
if [ -f "$root/home/libdsrt/tests/run.sh" ] && [ ! -e "$root/usr/bin/g++" ]; then passed=$((passed + 1)); else echo "FAILED fresh: the machine is not bare"; failed=$((failed + 1)); fi

run() { # run WHAT PATTERN: README's command in the bare Debian; its output must show PATTERN at the end
    echo "== $1"
    in_debian "$root" "cd /home/libdsrt && $1" >"$root.log" 2>&1 </dev/null
    code=$?
    tail -n 3 "$root.log"
    if [ "$code" = 0 ] && grep -Eq "$2" "$root.log"; then passed=$((passed + 1)); else
        failed=$((failed + 1))
        tail -n 40 "$root.log"
        echo "FAILED fresh: $1 (status $code)"
    fi
}
if [ $# -gt 0 ]; then run "$*" .
else
    grep -q '^    sh examples/quickstart.sh ' "$source/README.md" && grep -q '^    sh tests/run.sh ' "$source/README.md" || { echo "FAILED fresh: README.md's commands are others"; failed=$((failed + 1)); }
    run "sh examples/quickstart.sh" 'positive|negative'
    run "sh tests/run.sh --quick" '^[0-9]+ passed, 0 failed$'
fi
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
