#!/bin/sh
# bundle.sh OUT.tar.xz: what tests/gpu/run.sh needs, built here, for a machine with a GPU and nothing else: programs, the libraries they need, data. The
# CUDA libraries themselves are the machine's. DSRT_CUDA_ARCHITECTURES: for which GPUs (default 80;90;100;ptx).
set -eu
out=$(realpath "$1")
root=$(cd "$(dirname "$0")/../.." && pwd)
build=$root/build/gpu-bundle
cmake -S "$root" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DDSRT_CUDA=ON -DDSRT_CUDA_ARCHITECTURES="${DSRT_CUDA_ARCHITECTURES:-80;90;100;ptx}" >/dev/null
cmake --build "$build" --target dsrt dsrt_cuda train_goldens cuda_kernels cuda_attention cuda_devices cuda_fp8 ds_opt bench_step bench_device
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/dsrt-gpu/bin" "$work/dsrt-gpu/lib" "$work/dsrt-gpu/data"
cp "$build/tests/train_goldens" "$build/tests/ds_opt" "$build/tests/bench_step" "$build/tests/bench_device" "$build/tests/cuda/cuda_kernels" "$build/tests/cuda/cuda_attention" "$build/tests/cuda/cuda_devices" "$build/tests/cuda/cuda_fp8" "$work/dsrt-gpu/bin"
cp -L "$build/libdsrt.so.0" "$build/libdsrt_cuda.so" "$work/dsrt-gpu/lib"
for file in "$work"/dsrt-gpu/bin/* "$work"/dsrt-gpu/lib/*; do
    ldd "$file" | awk '$3 ~ /^\// { print $3 }'
done | sort -u | grep -vE '/(libc|libm|libdl|librt|libpthread|libdsrt)[.]|ld-linux' | while read -r library; do cp -L "$library" "$work/dsrt-gpu/lib"; done
strip "$work"/dsrt-gpu/bin/* "$work"/dsrt-gpu/lib/libdsrt*
cp -r "$root/tests/data/models" "$work/dsrt-gpu/data"
cp -r "$root/tests/ops" "$work/dsrt-gpu/ops"
cp "$root/tests/gpu/run.sh" "$root/tests/gpu/compare.py" "$root/tests/gpu/torch_step.py" "$root/tests/gpu/torch_kernels.py" "$work/dsrt-gpu"
tar -C "$work" -cJf "$out" dsrt-gpu
size=$(wc -c <"$out")
echo "$out: $((size / 1048576)) MiB"
[ "$size" -lt $((60 * 1048576)) ] || { echo "bundle.sh: more than 60 MiB" >&2; exit 1; }
