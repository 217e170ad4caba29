#!/usr/bin/env bash
# The documentation site: runs the code blocks of every page, then builds site/ (open site/index.html).
# Warnings are errors. What the blocks printed is kept in build/docs until they or the package change.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/environment.sh
environment
.venv/bin/python scripts/docs_reference.py --check
exec .venv/bin/python -m sphinx --builder html --fail-on-warning --keep-going --fresh-env --quiet \
  --doctree-dir build/docs "$@" docs site
