#!/bin/sh
# Records full-size runs on one device, part by part; chapter 19 reads them.
#
#   runs/record.sh PART [options]      PART: env ladder sizes decode train samples
#   runs/record.sh --help
#
# Each part takes at most 9 minutes. Called again, it goes on with what is
# still missing. Needs no network, and writes to runs/DEVICE-DATE.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
[ -x "$python" ] || python=python3
exec "$python" benchmarks/record.py "$@"
