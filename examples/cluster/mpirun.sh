#!/bin/sh
# mpirun.sh CONFIG.json [options of the program]: PROCESSES processes by Open MPI, on the hosts of HOSTS ("node1:2,node2:2"; empty: this one).
# With libdsrt_mpi.so beside libdsrt the data goes through MPI. To use Gloo under mpirun, set MASTER_ADDR (the first host), MASTER_PORT and DSRT_SECRET_FILE.
set -eu
program=${PROGRAM:-build/release/examples/train}
set -- "$program" "$@"
for name in MASTER_ADDR MASTER_PORT DSRT_SECRET_FILE DSRT_BACKEND_PATH; do
    eval "value=\${$name:-}"
    [ -z "$value" ] || set -- -x "$name" "$@"
done
[ -z "${HOSTS:-}" ] || set -- --host "$HOSTS" "$@"
exec mpirun -n "${PROCESSES:-2}" ${MPIRUN_OPTIONS:-} "$@"
