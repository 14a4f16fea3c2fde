#!/bin/sh
# Make the environment that hmmlearn_peer.py runs in: hmmlearn stays out of the environment of this package.
#   sh tests/benchmarks/peers/hmmlearn_env.sh PATH
set -eu
if [ $# -ne 1 ]; then
    echo "usage: $0 PATH" >&2
    exit 2
fi
python3 -m venv "$1"
"$1/bin/pip" install --quiet hmmlearn==0.3.3
"$1/bin/python" -c 'import hmmlearn; print("hmmlearn", hmmlearn.__version__, "is installed")'
