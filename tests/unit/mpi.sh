#!/bin/sh
# mpi.sh PROGRAM [PLUGIN FOLDER]: the conformance suite of comm in three processes of mpirun, over the MPI plug-in.
set -u
mpirun --version >/dev/null 2>&1 || { echo "SKIPPED the MPI backend: there is no mpirun"; echo "0 passed, 0 failed"; exit 0; }
root=
[ "$(id -u)" = 0 ] && root=--allow-run-as-root
export DSRT_BACKEND_PATH="$2" OMPI_MCA_btl_vader_single_copy_mechanism=none
# Under AddressSanitizer leaks are not looked for: Open MPI unloads its parts when the process ends, and what they kept then looks lost.
export ASAN_OPTIONS="${ASAN_OPTIONS:-}:detect_leaks=0"
# shellcheck disable=SC2086
out=$(mpirun $root --oversubscribe --bind-to none -n 3 "$1" 2>&1)
code=$?
echo "$out" | grep -v ' passed, '
echo "$out" | awk '/ passed, / {p += $1; f += $3} END {printf "%d passed, %d failed\n", p, f}'
exit $code
