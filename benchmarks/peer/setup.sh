#!/usr/bin/env bash
# setup.sh VENV [PYTHON]: the peer's environment. The two releases of TRL cannot share one: 1.12 is the last with PPO.
#
# tcmalloc, which the tuned peer runs with, is installed where apt-get is there and allowed to; without it the harness
# gives glibc's allocator settings that do nearly the same.

set -eu
here=$(dirname "$0")
venv=$1
python=${2:-python3}
trl() { "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --constraint "$here/constraints.txt" "$@"; }

[[ -e $venv/pyvenv.cfg ]] || "$python" -m venv "$venv"
trl torch transformers trl datasets accelerate
[[ -d $venv/trl-ppo/trl ]] ||
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --target "$venv/trl-ppo" trl==1.12.0

# not `grep -q`: it would end early, and ldconfig with it
if ! ldconfig -p 2>/dev/null | grep libtcmalloc_minimal >/dev/null; then
    if command -v apt-get >/dev/null && ((EUID == 0)); then
        export DEBIAN_FRONTEND=noninteractive
        { apt-get -qq update && apt-get -qq install -y --no-install-recommends libtcmalloc-minimal4; } >/dev/null ||
            echo "apt-get could not install libtcmalloc-minimal4; glibc's allocator will be tuned instead." >&2
    else
        echo "libtcmalloc-minimal4 is not installed; glibc's allocator will be tuned instead." >&2
    fi
fi
