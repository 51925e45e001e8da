#!/bin/sh
# Installs the Debian packages that the library, its tests and its examples need and that are missing, and those named as arguments.
set -u
packages="g++ cmake ninja-build pkg-config ccache libhwy-dev libhwloc-dev nlohmann-json3-dev libsimdjson-dev libutf8proc-dev
    libpcre2-dev libcli11-dev libcpp-httplib-dev dpkg-dev python3 libfmt-dev libcmocka-dev libxxhash-dev doctest-dev
    libgloo-dev libuv1-dev nettle-dev libopenmpi-dev openmpi-bin iproute2 $*"
missing=
for package in $packages; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing="$missing $package"
done
[ -z "$missing" ] && exit 0
root=
if [ "$(id -u)" != 0 ]; then
    if command -v sudo >/dev/null; then root=sudo; else
        echo "These Debian packages are missing, and installing them needs root or sudo:$missing" >&2
        exit 1
    fi
fi
echo "installing:$missing"
# shellcheck disable=SC2086
if ! $root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing >/dev/null 2>&1; then
    $root apt-get update >/dev/null && $root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing && exit 0
    echo "These Debian packages could not be installed; install them by hand and start again:$missing" >&2
    exit 1
fi
