# Sourced from the repository's root: makes $venv, a Python environment with PyTorch and transformers (a large download, once), or takes the one
# that DSRT_PEERS names.
venv=${DSRT_PEERS:-build/peers}
if [ ! -x "$venv/bin/python" ]; then
    sh tests/deps.sh python3-venv && python3 -m venv "$venv" || exit 1
fi
"$venv/bin/python" -c 'import torch, transformers, tokenizers, numpy, peft' 2>/dev/null || "$venv/bin/python" -m pip install --quiet torch transformers tokenizers numpy peft || exit 1
