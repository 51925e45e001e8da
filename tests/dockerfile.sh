#!/bin/sh
# Proves the Dockerfile where there is no Docker: its steps are taken one by one in bare Debians (debootstrap, chroot), a folder a stage, and the last stage's
# command trains. Only the instructions that the Dockerfile uses are known. Needs root and Debian's packages; part of --full.
#   tests/dockerfile.sh [--keep]
# FRESH names the folder (default build/docker); MIRROR the Debian mirror (default: the first that this machine's apt uses).
set -u
source=$(cd "$(dirname "$0")/.." && pwd)
work=${FRESH:-$source/build/docker}
keep=0
[ "${1:-}" = --keep ] && keep=1
skip() { echo "SKIPPED dockerfile: $1"; echo "0 passed, 0 failed"; exit 0; }
[ "$(id -u)" = 0 ] || skip "debootstrap and chroot need root"
command -v debootstrap >/dev/null || sh "$source/tests/deps.sh" debootstrap || skip "debootstrap is not installed"
. "$source/tests/support/chroot.sh"
mkdir -p "$work/tree"
leave() {
    for stage in "$work"/stage-*; do leave_debian "$stage"; done
    [ "$keep" = 1 ] || rm -rf --one-file-system "$work"
}
trap leave EXIT
fail() { tail -n 40 "$work/log"; echo "FAILED dockerfile: $1"; echo "$passed passed, 1 failed"; exit 1; }
passed=0 stages=0 root='' folder=/
git -C "$source" archive HEAD | tar -x -C "$work/tree" || fail "copying the tree"

# One instruction. COPY takes from the tree, or --from a stage.
step() {
    set +f
    instruction=$1
    shift
    case $instruction in
        FROM)
            [ "$1" = debian:12-slim ] || fail "FROM $1: debian:12-slim is known"
            stages=$((stages + 1)) root=$work/stage-${3:-last} folder=/
            make_debian "$root" >"$work/log" 2>&1 || fail "debootstrap (log: $root.log)"
            ;;
        WORKDIR) folder=$1 && mkdir -p "$root$folder" ;;
        COPY)
            from=$work/tree
            case $1 in --from=*) from=$work/stage-${1#--from=}; shift ;; esac
            paths=$*
            to=${paths##* }
            case $to in /*) ;; *) to=$folder/$to ;; esac
            case $to in */. | */) mkdir -p "$root$to" ;; *) mkdir -p "$root$(dirname "$to")" ;; esac
            # shellcheck disable=SC2086  # patterns of files
            (cd "$from" && for path in ${paths% *}; do cp -r ./$path "$root$to" || exit 1; done) >"$work/log" 2>&1 || fail "COPY $paths"
            ;;
        RUN) in_debian "$root" "cd $folder && $*" >"$work/log" 2>&1 </dev/null || fail "RUN $*" ;;
        ENTRYPOINT | CMD) ;;
        *) fail "$instruction is not known here" ;;
    esac
    passed=$((passed + 1))
}

# Lines that end in a backslash go on; what comes after the number sign at the beginning is a comment.
awk '/^#/ || /^$/ { next } { line = line $0 } sub(/\\$/, "", line) { next } { print line; line = "" }' "$source/Dockerfile" >"$work/steps"
[ -s "$work/steps" ] || fail "the Dockerfile has no steps"
while read -r instruction rest; do
    echo "$instruction $rest"
    case $instruction in
        RUN) step RUN "$rest" ;;
        # shellcheck disable=SC2086
        *) set -f; step $instruction $rest ;;
    esac
done <"$work/steps"
[ "$stages" = 2 ] || fail "two stages, not $stages"

# The image: no compiler, and a command that works.
[ ! -e "$root/usr/bin/cc" ] && [ ! -e "$root/usr/include/dsrt" ] || fail "a compiler or headers are in the image"
mkdir -p "$root/training/examples/pretrain" && cp -r "$source/examples/first" "$root/training/examples" && cp "$source/examples/pretrain/tokenizer.json" "$root/training/examples/pretrain"
for command in --version "train examples/first/config.json --output run --steps 20" "generate run/model Twas --max-new-tokens 8"; do
    in_debian "$root" "cd /training && dsrt $command" >"$work/log" 2>&1 </dev/null || fail "dsrt $command"
    passed=$((passed + 1))
done
echo "$passed passed, 0 failed"
