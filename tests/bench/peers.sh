# Sourced from the repository's root: configures the release preset and makes $venv, a Python environment with the peers.
sh tests/run.sh --deps
cmake --preset release >/dev/null
. tests/support/peers.sh
