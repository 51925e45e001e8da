#!/bin/sh
# resources.sh FOLDER TABLE [--bless]: registers, spills and static shared memory of each kernel for sm_90, as ptxas told while they were compiled, against
# TABLE: more registers than there, a spill, or more shared memory fails; so does a kernel that the table lacks. --bless writes the table.
set -u
folder=$1 table=$2
found=$(cat "$folder"/*.ptxas.txt | awk '
    /Compiling entry function/ { match($0, /function .[^'"'"']*/); name = substr($0, RSTART + 10, RLENGTH - 10); ninety = $0 ~ /sm_90/; stack = spill = 0 }
    /bytes stack frame/ && ninety { stack = $0; sub(/^ */, "", stack); split(stack, w, " "); stack = w[1]; spill = w[5] + w[9] }
    /Used [0-9]+ registers/ && ninety { match($0, /Used [0-9]+/); regs = substr($0, RSTART + 5, RLENGTH - 5); smem = 0
        if (match($0, /[0-9]+ bytes smem/)) { smem = substr($0, RSTART, RLENGTH); sub(/ .*/, "", smem) }
        print name, regs, spill, smem }' | c++filt -p | sort)
if [ "${3:-}" = --bless ]; then
    { echo "# kernel registers spilled_bytes shared_bytes; sm_90, written by tests/cuda/resources.sh --bless"; echo "$found"; } >"$table"
    exit 0
fi
[ -n "$found" ] || { echo "FAILED no kernel was compiled for sm_90"; echo "0 passed, 1 failed"; exit 1; }
echo "$found" | awk -v table="$table" '
    BEGIN { while ((getline line < table) > 0) { n = split(line, w, " "); key = line; sub(/( [0-9]+){3}$/, "", key); regs[key] = w[n-2]; spill[key] = w[n-1]; smem[key] = w[n] } }
    { n = split($0, w, " "); key = $0; sub(/( [0-9]+){3}$/, "", key); seen[key] = 1
      if (!(key in regs)) { failed++; print "FAILED " key ": not in " table "; run tests/cuda/resources.sh FOLDER " table " --bless"; next }
      if (w[n-2] > regs[key] + 8 || w[n-1] + 0 > spill[key] + 0 || w[n] + 0 > smem[key] + 0) { failed++; print "FAILED " key ": " w[n-2] " registers, " w[n-1] " bytes spilled, " w[n] " shared; the table says " regs[key] ", " spill[key] ", " smem[key] }
      else passed++ }
    END { for (key in regs) if (!(key in seen) && key !~ /^#/) { failed++; print "FAILED " key ": in the table, but no kernel" }
          print passed + 0 " passed, " failed + 0 " failed"; exit failed > 0 }'
