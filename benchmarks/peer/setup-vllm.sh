#!/usr/bin/env bash
# setup-vllm.sh VENV [PYTHON]: vLLM's CPU build, in an environment of its own because it pins what it needs.
#
# The list is installed as it stands: resolved, vLLM would also bring packages for pictures and sound, whose releases
# must match PyTorch's build and which sampling never imports. tcmalloc comes with setup.sh.

set -eu
here=$(dirname "$0")
venv=$1
python=${2:-python3}
pip() { "$venv/bin/python" -m pip --quiet --disable-pip-version-check "$@"; }

[[ -e $venv/pyvenv.cfg ]] || "$python" -m venv "$venv"
pip install --constraint "$here/constraints-vllm.txt" torch
pip install --no-deps --requirement "$here/constraints-vllm.txt"
