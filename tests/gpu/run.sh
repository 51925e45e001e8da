#!/bin/sh
# Everything that needs a GPU, on a machine that has one; no network; within 8 minutes.
#   tests/gpu/run.sh [--long] [info] [kernels] [goldens] [several] [sanitizer] [bench] [profile]     all parts without an argument
# profile: what Nsight Compute says of a step's kernels (profile.csv in the current folder); only where it is named, or with --long, which knows no time limit.
# several: ranks on 2 to 4 GPUs, where there are as many.
# In an unpacked bundle (tests/gpu/bundle.sh makes one) it uses the programs there; in a clone it builds what is missing.
# DSRT_GPU_SECONDS: when to stop starting new parts (default 450).
set -u
here=$(cd "$(dirname "$0")" && pwd)
began=$(date +%s)
limit=${DSRT_GPU_SECONDS:-450}
all="info kernels goldens several sanitizer bench"
if [ "${1:-}" = --long ]; then
    shift
    limit=86400 all="$all profile"
fi
parts=${*:-$all}
passed=0 failed=0 skipped=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# PyTorch runs as it did before: the bundle's libraries are not its own.
DSRT_PEER_LIBRARY_PATH=${LD_LIBRARY_PATH:-}
export DSRT_PEER_LIBRARY_PATH
if [ -d "$here/bin" ]; then
    bin=$here/bin backend=$here/lib data=$here/data cases=$here/ops
    LD_LIBRARY_PATH=$here/lib:${LD_LIBRARY_PATH:-}
else
    root=$(cd "$here/../.." && pwd)
    cmake -S "$root" -B "$root/build/gpu" -G Ninja -DCMAKE_BUILD_TYPE=Release -DDSRT_CUDA=ON -DDSRT_CUDA_ARCHITECTURES="${DSRT_CUDA_ARCHITECTURES:-90}" >/dev/null &&
        cmake --build "$root/build/gpu" --target dsrt dsrt_cuda train_goldens cuda_kernels cuda_attention cuda_devices cuda_fp8 ds_opt bench_step bench_device >"$root/build/gpu.log" 2>&1 || {
        tail -n 20 "$root/build/gpu.log"
        echo "FAILED build"
        exit 1
    }
    bin=$root/build/gpu/tests backend=$root/build/gpu data=$root/tests/data cases=$root/tests/ops
    PATH=$root/build/gpu/tests/cuda:$PATH
fi
PATH=$bin:$PATH
# CUDA's own libraries: the toolkit's, or those that PyTorch's wheels bring.
python=${PYTHON:-python3}
wheels=$("$python" -c 'import glob, os, site; print(":".join(d for s in site.getsitepackages() for d in glob.glob(os.path.join(s, "nvidia", "*", "lib"))))' 2>/dev/null)
LD_LIBRARY_PATH=${LD_LIBRARY_PATH:-}:/usr/local/cuda/lib64:$wheels
DSRT_BACKEND_PATH=$backend DSRT_TEST_DATA=$data DSRT_GOLDENS_DEVICE=cuda
export PATH LD_LIBRARY_PATH DSRT_BACKEND_PATH DSRT_TEST_DATA DSRT_GOLDENS_DEVICE

run() { # run NAME COMMAND...: counts it, and shows its end where it fails
    name=$1
    shift
    if [ $(($(date +%s) - began)) -gt "$limit" ]; then
        skipped=$((skipped + 1))
        echo "skipped $name: $limit seconds have passed"
        return 0
    fi
    from=$(date +%s)
    if timeout 240 "$@" >"$log" 2>&1; then
        passed=$((passed + 1))
        echo "passed $name in $(($(date +%s) - from)) s: $(tail -n 1 "$log")"
    else
        failed=$((failed + 1))
        grep -E '^FAILED|ERROR' "$log" | head -n 20
        tail -n 15 "$log"
        echo "FAILED $name"
    fi
}

for part in $parts; do
    echo "== $part"
    case $part in
        info)
            nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader || { echo "FAILED no GPU"; exit 1; }
            LD_LIBRARY_PATH=$DSRT_PEER_LIBRARY_PATH "$python" -c 'import torch; print("torch", torch.__version__)' 2>/dev/null || echo "no torch: nothing to compare with"
            ;;
        kernels)
            run cases ds_opt --device=cuda "$cases"/*.ir
            for way in fused split timed; do run "epilogues $way" env DSRT_CUDA_EPILOGUES=$way ds_opt --device=cuda "$cases"/matmul_gelu.ir "$cases"/matmul_sums.ir; done
            run kernels cuda_kernels
            run attention cuda_attention
            run "8-bit floats" cuda_fp8
            ;;
        goldens) for precision in f32 bf16 fp16; do run "goldens $precision" train_goldens $precision; done ;;
        several)
            gpus=$(nvidia-smi -L 2>/dev/null | grep -c '^GPU')
            if [ "$gpus" -ge 2 ]; then
                run "$gpus devices" cuda_devices
                run "goldens on 2 GPUs" train_goldens f32 data=2 data=2,zero=1 data=2,zero=2 data=2,zero=3 tensor=2 pipeline=2,accumulate=4 sequence=2
                run "goldens on 2 GPUs, bf16" train_goldens bf16 data=2 tensor=2
                if [ "$gpus" -ge 4 ]; then run "goldens on 4 GPUs" train_goldens f32 tensor=2,data=2,zero=1 pipeline=2,data=2; fi
            else
                skipped=$((skipped + 1))
                echo "skipped several: $gpus GPU"
            fi
            ;;
        sanitizer)
            tool=$(command -v compute-sanitizer || echo /usr/local/cuda/bin/compute-sanitizer)
            if [ -x "$tool" ]; then
                run memcheck "$tool" --error-exitcode 1 --leak-check full bench_step "$data/models/gpt2" 2 16 bf16 2 1 '"device": "cuda"'
                run racecheck "$tool" --tool racecheck --error-exitcode 1 bench_step "$data/models/llama" 2 16 f32 1 1 '"device": "cuda"'
                run "racecheck of experts" "$tool" --tool racecheck --error-exitcode 1 bench_step "$data/models/mixtral" 2 16 bf16 1 1 '"device": "cuda"'
                run initcheck "$tool" --tool initcheck --error-exitcode 1 bench_step "$data/models/bert-sentiment" 2 16 f32 1 1 '"device": "cuda"'
            else
                skipped=$((skipped + 1))
                echo "skipped sanitizer: there is no compute-sanitizer"
            fi
            ;;
        bench) "$python" "$here/compare.py" --bench "$(command -v bench_step)" --peer "$here/torch_step.py" --kernels "$(command -v bench_device)" --kernels-peer "$here/torch_kernels.py" --seconds "$((limit - $(date +%s) + began))" || failed=$((failed + 1)) ;;
        profile)
            tool=$(command -v ncu || echo /usr/local/cuda/bin/ncu)
            if [ -x "$tool" ]; then
                # The second step: of the first, products are still chosen. Its own log says what it timed.
                run profile sh -c '"$1" --clock-control none --section SpeedOfLight --launch-skip 800 --launch-count 400 --csv --log-file profile.csv "$2" gpt2 8 1024 bf16 3 1 "\"device\": \"cuda\"" && wc -l profile.csv' sh "$tool" "$(command -v bench_step)"
            else
                skipped=$((skipped + 1))
                echo "skipped profile: there is no ncu"
            fi
            ;;
        *) echo "tests/gpu/run.sh: unknown part $part; known are info, kernels, goldens, several, sanitizer, bench and profile" >&2; exit 2 ;;
    esac
done
echo "$passed passed, $failed failed, $skipped skipped in $(($(date +%s) - began)) s"
[ "$failed" = 0 ]
