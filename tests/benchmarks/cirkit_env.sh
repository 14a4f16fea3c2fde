#!/bin/sh
# Make the environment that cirkit_peer.py runs in: cirkit is GPL, and stays out of the environment of this package.
#   sh tests/benchmarks/cirkit_env.sh PATH
set -eu
if [ $# -ne 1 ]; then
    echo "usage: $0 PATH" >&2
    exit 2
fi
python3 -m venv "$1"
"$1/bin/pip" install --quiet libcirkit==0.3.1
"$1/bin/python" -c 'import cirkit, torch; print("cirkit and torch", torch.__version__, "are installed")'
