#!/usr/bin/env bash
# Coverage-guided fuzzing of the project's own parsers: fuzz.sh [SECONDS for each target, 60]. Ends with 1 after a
# finding, whose bytes are kept in the folder of temporary files; make a test of each.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/environment.sh
environment
found=0
for target in tests/fuzz/*.py; do
    [ "$target" = tests/fuzz/harness.py ] && continue
    echo "== $target" >&2
    .venv/bin/python "$target" "${1:-60}" || found=1
done
exit "$found"
