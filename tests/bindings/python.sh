#!/bin/sh
# python.sh BUILD: builds the wheel with pip, twice: against the installed library, and with the library inside; runs the tests on the first.
. "$(dirname "$0")/common.sh"
python=/usr/bin/python3  # Debian's, for which tests/deps.sh installs numpy
[ -x "$python" ] || python=$(command -v python3) || skip "there is no python3"
command -v swig >/dev/null || skip "there is no swig"
"$python" -c 'import setuptools, wheel, pip' 2>/dev/null || skip "$python has no setuptools, wheel or pip"
"$python" -c 'import sysconfig, os; assert os.path.exists(sysconfig.get_path("include") + "/Python.h")' 2>/dev/null || skip "$python has no Python.h"

# The sources are copied, since pip leaves its traces in them.
rm -rf "$work/copy" "$work/site" "$work/bundled"
mkdir -p "$work/copy"
cp -r "$source/bindings/python" "$source/bindings/swig" "$work/copy"
pip_install() { "$python" -m pip install --quiet --no-build-isolation --no-deps --no-index --target "$1" "$work/copy/python"; }
if command -v ccache >/dev/null; then CC="ccache gcc"; export CC; fi
CFLAGS=$wrapper_flags LDFLAGS=$lazy  # beside those that Python itself uses
export CFLAGS LDFLAGS
case_of "pip install ./bindings/python" pip_install "$work/site" || finish

PYTHONPATH=$work/site PYTHONDONTWRITEBYTECODE=1
export PYTHONPATH PYTHONDONTWRITEBYTECODE
for file in "$source"/bindings/python/tests/test_*.py; do counted noted "$python" "$file"; done
program train "env PYTHONPATH=$work/site $python examples/python/train.py"
program mistakes "env PYTHONPATH=$work/site $python bindings/python/tests/mistakes.py"

# The bundled wheel brings its own copy: what is mapped lies in the package, and it works where no libdsrt is installed.
DSRT_BUNDLE=1
export DSRT_BUNDLE
if case_of "DSRT_BUNDLE=1 pip install ./bindings/python" pip_install "$work/bundled"; then
    unset LD_LIBRARY_PATH
    case_of "the bundled wheel uses its own library" env PYTHONPATH="$work/bundled" "$python" -c "
import dsrt
dsrt.Tensor([1.0]).tolist()
maps = {line.split()[-1] for line in open('/proc/self/maps') if '.so' in line}
ours = {m for m in maps if '/bundled/dsrt/lib/' in m}
names = {m.rsplit('/', 1)[1].split('.so')[0] for m in ours}
assert {'libdsrt', 'libhwloc', 'libsimdjson'} <= names, names
outside = [m for m in maps - ours if m.rsplit('/', 1)[1].split('.so')[0] in names]
assert not outside, outside"
fi
finish
