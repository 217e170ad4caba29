#!/usr/bin/env bash
# Mutation testing of the quantizer, the preprocessing and the manifest (docs/mutation-testing.md). Hours for all that
# it can do, and it goes on where it was stopped. robustness/mutation.py describes the arguments; the dependency
# group `mutation` is installed into .venv. Linux, Python 3.11 or later.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/environment.sh
environment
.venv/bin/python -c 'import cosmic_ray' 2>/dev/null || .venv/bin/python -m pip install --quiet --group mutation
exec nice -n 10 .venv/bin/python robustness/mutation.py "$@"
