#!/usr/bin/env bash
# Every check of the project: formatter, linter, types, tests. Arguments go to pytest.
# Where apt, dpkg and root allow it, the tests on emulated ARM processors run too; MBN_ARM=no leaves them out,
# MBN_ARM=all tries every real model there (ten minutes). Where there is apt, the tests of web pages get a browser;
# MBN_BROWSER=no leaves them out. Where there are apt, npm and a JDK, code and packages for Android are built with the
# real tools; MBN_ANDROID=no leaves that out.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/environment.sh
environment
.venv/bin/ruff format --check --quiet .
.venv/bin/ruff check --quiet .
# As the Python that runs it: the types of numpy from 2.5 on are written for Python 3.12 and later.
.venv/bin/mypy --python-version "$(.venv/bin/python -c 'import sys; print(*sys.version_info[:2], sep=".")')"
test_tools
.venv/bin/python -m pytest "$@"
