#!/bin/sh
# resources.sh FOLDER TABLE [--bless]: registers, spills and static shared memory of each kernel for sm_90, as ptxas told while they were compiled, and whether
# its code has tensor-core instructions, as cuobjdump shows, against TABLE: more registers than there, a spill, more shared memory or no tensor-core
# instruction where the table has one fails; so does a kernel that the table lacks, and a
# "Potential Performance Loss" of ptxas: products of wgmma that it makes wait for each other. --bless writes the table.
# Without cuobjdump (and nvdisasm; PyPI: nvidia-cuda-cuobjdump, nvidia-cuda-nvdisasm) instructions are not looked at.
set -u
folder=$1 table=$2 bless=${3:-}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
looks=0
if command -v cuobjdump >/dev/null && command -v nvdisasm >/dev/null; then
    looks=1
    for object in "$folder"/*.o; do cuobjdump -arch sm_90a -sass "$object"; done 2>/dev/null | awk '/Function :/ { name = $3 } /HMMA|HGMMA/ { found[name] = 1 } END { for (name in found) print name }' >"$work/mma"
elif [ "$bless" = --bless ]; then
    echo "resources.sh: --bless needs cuobjdump and nvdisasm (PyPI: nvidia-cuda-cuobjdump, nvidia-cuda-nvdisasm)" >&2
    exit 1
else
    echo "skipped tensor-core instructions: there is no cuobjdump with nvdisasm"
fi
touch "$work/mma"
found=$(cat "$folder"/*.ptxas.txt | awk -v mma="$work/mma" '
    BEGIN { while ((getline line < mma) > 0) tensor[line] = 1 }
    /Compiling entry function/ { match($0, /function .[^'"'"']*/); name = substr($0, RSTART + 10, RLENGTH - 10); ninety = $0 ~ /sm_90/; stack = spill = 0 }
    /bytes stack frame/ && ninety { stack = $0; sub(/^ */, "", stack); split(stack, w, " "); stack = w[1]; spill = w[5] + w[9] }
    /Used [0-9]+ registers/ && ninety { match($0, /Used [0-9]+/); regs = substr($0, RSTART + 5, RLENGTH - 5); smem = 0
        if (match($0, /[0-9]+ bytes smem/)) { smem = substr($0, RSTART, RLENGTH); sub(/ .*/, "", smem) }
        print name, regs, spill, smem, tensor[name] + 0 }' | c++filt -p | sort)
if [ "$bless" = --bless ]; then
    { echo "# kernel registers spilled_bytes shared_bytes tensor_cores; sm_90, written by tests/cuda/resources.sh --bless"; echo "$found"; } >"$table"
    exit 0
fi
[ -n "$found" ] || { echo "FAILED no kernel was compiled for sm_90"; echo "0 passed, 1 failed"; exit 1; }
slow=$(grep -h 'Potential Performance Loss' "$folder"/*.ptxas.txt | sed 's/^ptxas info *: *//' | c++filt | sort -u)
[ -z "$slow" ] || { echo "$slow" | sed 's/^/FAILED /'; echo "0 passed, $(echo "$slow" | wc -l) failed"; exit 1; }
echo "$found" | awk -v table="$table" -v looks="$looks" '
    function name_of(line,  i) { for (i = 0; i < 4; i++) sub(/ [0-9]+$/, "", line); return line }
    function most(a, b) { return a + 0 > b + 0 ? a + 0 : b + 0 }
    BEGIN { while ((getline line < table) > 0) {  # of kernels with one name in several files, the most
                n = split(line, w, " "); key = name_of(line)
                mma[key] = key in regs && mma[key] + 0 < w[n] + 0 ? mma[key] : w[n]
                regs[key] = most(regs[key], w[n-3]); spill[key] = most(spill[key], w[n-2]); smem[key] = most(smem[key], w[n-1]) } }
    { n = split($0, w, " "); key = name_of($0); seen[key] = 1
      if (!(key in regs)) { failed++; print "FAILED " key ": not in " table "; run tests/cuda/resources.sh FOLDER " table " --bless"; next }
      if (w[n-3] > regs[key] + 8 || w[n-2] + 0 > spill[key] + 0 || w[n-1] + 0 > smem[key] + 0 || (looks + 0 && w[n] + 0 < mma[key] + 0)) {
          failed++; print "FAILED " key ": " w[n-3] " registers, " w[n-2] " bytes spilled, " w[n-1] " shared, tensor cores " w[n] "; the table says " regs[key] ", " spill[key] ", " smem[key] ", " mma[key] }
      else passed++ }
    END { for (key in regs) if (!(key in seen) && key !~ /^#/) { failed++; print "FAILED " key ": in the table, but no kernel" }
          print passed + 0 " passed, " failed + 0 " failed"; exit failed > 0 }'
