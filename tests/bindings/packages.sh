#!/bin/sh
# Prints the Debian packages of the languages that this machine lacks, and of tools that tests use where they are; without them those tests are
# skipped. All of them together take about a minute to install.
need() { command -v "$1" >/dev/null || echo "$2"; }
need swig swig
echo python3-dev python3-setuptools python3-wheel python3-pip python3-numpy  # for Debian's own Python, whatever else is on the path
need go golang-go
need cargo "cargo rustc"
need javac default-jdk-headless
need mcs "mono-mcs mono-runtime libmono-system-core4.0-cil"
need abidw abigail-tools
need lintian lintian
need doxygen doxygen
