#!/usr/bin/env bash
# Installs the programs that some tests need and Python cannot bring: a browser, PostgreSQL's server, a C compiler.
#
# Quiet where they are present. Where they cannot be installed it says so and succeeds: those tests are then skipped.

set -u
missing=()
[[ -n $(command -v chromium chromium-browser google-chrome) ]] || missing+=(chromium)
[[ -n $(command -v initdb) || -n $(compgen -G '/usr/lib/postgresql/*/bin/initdb') ]] || missing+=(postgresql)
[[ -n $(command -v gcc) ]] || missing+=(gcc libc6-dev)
((${#missing[@]})) || exit 0

say() { echo "$*" >&2; }

if ! command -v apt-get >/dev/null; then
    say "Tests with ${missing[*]} will be skipped: not installed, and there is no apt-get to install it with."
elif ((EUID != 0)); then
    say "Tests with ${missing[*]} will be skipped. Install what is missing: sudo apt-get install ${missing[*]}"
else
    say "Installing for the tests: ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    if ! { apt-get -qq update && apt-get -qq install -y --no-install-recommends "${missing[@]}"; } >/dev/null; then
        say "Tests with ${missing[*]} will be skipped: apt-get could not install it."
    fi
fi
