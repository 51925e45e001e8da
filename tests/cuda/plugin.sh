#!/bin/sh
# plugin.sh PLUGIN LIBRARY TRAIN_GOLDENS: the real plug-in exports one function, needs neither a driver nor cuBLAS to be loaded, and where there is no GPU a
# host is told so.
set -eu
plugin=$1 library=$2 train=$3
passed=0 failed=0
check() { if [ "$2" = 0 ]; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "FAILED $1"; fi; }
exports=$(nm -D --defined-only "$plugin" | awk '{ print $3 }' | grep -v '^_ZTS\|^_ZTI' | tr '\n' ' ')
[ "$exports" = "dsrt_plugin_v1 " ] && r=0 || r=1
check "exports of $plugin: $exports" $r
needs=$(objdump -p "$plugin" | awk '/NEEDED/ { print $2 }' | grep -i 'cuda\|cublas\|nccl\|cudnn' | tr '\n' ' ')
[ -z "$needs" ] && r=0 || r=1
check "$plugin must load without a driver, but needs $needs" $r
[ "$(dirname "$plugin")" = "$(dirname "$library")" ] && r=0 || r=1
check "the plug-in lies beside the library" $r
if [ -e /dev/nvidiactl ]; then
    echo "skipped the refusal: there is a GPU"
else
    said=$(env -u DSRT_BACKEND_PATH DSRT_GOLDENS_DEVICE=cuda "$train" f32 2>&1 | head -n 1)
    case $said in *"DS_E_DEVICE: cuda: no device can be used: "*) r=0 ;; *) r=1 ;; esac
    check "without a GPU: $said" $r
fi
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
