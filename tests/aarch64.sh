#!/bin/sh
# The library on Arm, on a machine of another kind: cross-compiled against Debian's arm64 libraries, and run by qemu-user: the C tests of the ABI, the golden models,
# the ops' cases and the CPU kernels' unit tests. Part of --full.
#   tests/aarch64.sh [--libraries]     (only fetches the libraries, for `cmake --preset aarch64-release`)
# The libraries are unpacked into build/aarch64/root: nothing of another architecture is installed here. MIRROR names the Debian mirror (default: the first that
# this machine's apt uses).
set -u
cd "$(dirname "$0")/.." || exit 1
skip() { echo "SKIPPED aarch64: $1"; echo "0 passed, 0 failed"; exit 0; }
fail() { echo "FAILED aarch64: $1"; echo "0 passed, 1 failed"; exit 1; }
command -v aarch64-linux-gnu-g++ >/dev/null && command -v qemu-aarch64 >/dev/null || sh tests/deps.sh g++-aarch64-linux-gnu qemu-user || skip "g++-aarch64-linux-gnu or qemu-user is not installed"
. tests/support/chroot.sh
debian=$PWD/build/aarch64 log=build/aarch64-release/tests.log
mkdir -p "$debian" build/aarch64-release

# What deps.sh installs of libraries, and C and C++ themselves. Open MPI brings a hundred packages and would start Arm programs through an x86 daemon.
libraries="libc6-dev libstdc++-12-dev $(sed -n '/^packages="/,/\$\*"/p' tests/deps.sh | grep -o '[a-z0-9+.-]*-dev\b' | grep -v '^libopenmpi\|^dpkg' | sort | tr '\n' ' ')"
if [ "$(cat "$debian/made" 2>/dev/null)" != "$libraries" ]; then
    rm -rf "$debian" && mkdir -p "$debian/apt/lists/partial" "$debian/apt/archives/partial" "$debian/root"
    echo "deb [arch=arm64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $(debian_mirror) bookworm main" >"$debian/apt/sources.list"
    : >"$debian/apt/status"
    for_arm() {
        apt-get -qq -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o APT::Sandbox::User=root -o Dir::State="$debian/apt" -o Dir::State::status="$debian/apt/status" -o Dir::Cache="$debian/apt" \
            -o Dir::Etc::SourceList="$debian/apt/sources.list" -o Dir::Etc::SourceParts=/dev/null "$@" >>"$debian/log" 2>&1
    }
    # shellcheck disable=SC2086
    if ! for_arm update || ! for_arm install -y --no-install-recommends --download-only $libraries; then
        tail -n 3 "$debian/log"
        skip "Debian's arm64 packages can't be had"
    fi
    for package in "$debian"/apt/archives/*.deb; do dpkg-deb -x "$package" "$debian/root" || fail "$package can't be unpacked"; done
    find "$debian/root" -type l -lname '/*' | while read -r link; do ln -sfnr "$debian/root$(readlink "$link")" "$link"; done
    rm -r "$debian/apt"
    echo "$libraries" >"$debian/made"
fi
[ "${1:-}" = --libraries ] && exit 0

# Tests; a test's program has its name, with _ for /, but for those named after the colon.
tests="unit/kernels unit/gemm unit/coded unit/attention unit/optim ops/cases:ds_opt train/goldens_f32:train_goldens abi/first
    $(cd tests && ls abi/*.c | sed '/audit/d; s/\.c$//')"
# shellcheck disable=SC2086
programs=$(printf '%s\n' $tests | sed 's/.*://; s,/,_,')
# shellcheck disable=SC2086
which=$(printf '%s\n' $tests | sed 's/:.*//' | paste -s -d '|')
begin=$(date +%s)
# shellcheck disable=SC2086
if ! cmake --preset aarch64-release >"$log" 2>&1 || ! cmake --build build/aarch64-release -j "${DSRT_JOBS:-$(nproc)}" --target $programs >>"$log" 2>&1; then
    grep -m 5 'error' "$log" || tail -n 20 "$log"
    fail "the build (log: $log)"
fi
echo "built in $(($(date +%s) - begin)) s"
begin=$(date +%s)
ctest --test-dir build/aarch64-release -V -j "${DSRT_JOBS:-$(nproc)}" --timeout 1500 -R "^($which)\$" >"$log" 2>&1
sed -n -f tests/support/failures.sed "$log"
echo "run by qemu-aarch64 in $(($(date +%s) - begin)) s: $(echo $tests | sed 's/:[a-z_]*//g')"
counts=$(awk -f tests/support/count.awk "$log")
echo "$counts" | grep -v '^SKIPPED\|skipped$'
set -- $(echo "$counts" | tail -n 1)
[ $(($1 + $3)) -gt 0 ] || set -- 0 passed, 1 failed
echo "$1 passed, $3 failed"
[ "$3" = 0 ]
