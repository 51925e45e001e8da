# Sourced from the repository's root: configures the release preset and makes $venv, a Python environment with the peers (a large download, once).
sh tests/run.sh --deps
cmake --preset release >/dev/null
venv=${DSRT_PEERS:-build/peers}
if [ ! -x "$venv/bin/python" ]; then python3 -m venv "$venv"; fi
"$venv/bin/python" -c 'import torch, transformers' 2>/dev/null || "$venv/bin/python" -m pip install --quiet torch transformers
