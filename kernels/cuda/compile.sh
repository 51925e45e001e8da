#!/bin/sh
# compile.sh LOG COMMAND...: runs nvcc and keeps what ptxas says of each kernel in LOG; everything else it says, and where it sees a loss of speed, is shown.
log=$1
shift
"$@" >"$log.all" 2>&1
code=$?
grep -E 'Compiling entry function|Used [0-9]+ registers|bytes stack frame|Potential Performance Loss' "$log.all" >"$log"
grep 'Potential Performance Loss' "$log" >&2
grep -vE '^ptxas info|bytes stack frame|Used [0-9]+ registers|^$' "$log.all" >&2
rm -f "$log.all"
exit $code
