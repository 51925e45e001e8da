# A minimal Debian 12 in a folder, for tests that need a machine of their own. Sourced; needs root.

# Where this machine's apt gets Debian from; MIRROR overrides it.
debian_mirror() {
    [ -n "${MIRROR:-}" ] && { echo "$MIRROR"; return; }
    apt-get indextargets --format '$(REPO_URI)|$(ORIGIN)' 2>/dev/null | awk -F'|' '$2 == "Debian" && $1 !~ /security/ { print $1; exit }'
}

# make_debian FOLDER: made once; the settings of this machine's apt and network go in with it.
make_debian() {
    if [ ! -e "$1/.made" ]; then
        mkdir -p "$1"
        debootstrap --variant=minbase --include=ca-certificates bookworm "$1" "$(debian_mirror)" >"$1.log" 2>&1 || return 1
        echo force-unsafe-io >"$1/etc/dpkg/dpkg.cfg.d/unsafe-io"  # it need not survive a power failure
        touch "$1/.made"
    fi
    cp /etc/resolv.conf "$1/etc/resolv.conf" 2>/dev/null
    [ -e /etc/pip.conf ] && cp /etc/pip.conf "$1/etc/pip.conf"
    [ -d /usr/local/share/ca-certificates ] && cp -r /usr/local/share/ca-certificates "$1/usr/local/share/"
    cp /etc/ssl/certs/ca-certificates.crt "$1/etc/ssl/certs/" 2>/dev/null
    for file in /etc/apt/apt.conf.d/*proxy* /etc/apt/apt.conf; do [ -e "$file" ] && cp "$file" "$1/etc/apt/apt.conf.d/"; done
    for part in proc sys dev; do mountpoint -q "$1/$part" || mount --rbind "/$part" "$1/$part" || return 1; mount --make-rslave "$1/$part"; done
    return 0
}

# in_debian FOLDER COMMAND: with the few variables that a login would have, and this machine's for the network.
in_debian() {
    env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
        ${http_proxy:+http_proxy="$http_proxy"} ${https_proxy:+https_proxy="$https_proxy"} ${no_proxy:+no_proxy="$no_proxy"} \
        ${PIP_INDEX_URL:+PIP_INDEX_URL="$PIP_INDEX_URL"} ${DSRT_JOBS:+DSRT_JOBS="$DSRT_JOBS"} chroot "$1" sh -c "$2"
}

leave_debian() {
    for part in run/netns dev sys proc; do umount -R -l "$1/$part" 2>/dev/null; done
}
