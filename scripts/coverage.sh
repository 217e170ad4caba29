#!/usr/bin/env bash
# How much of the package the tests run, by branches; fails below 90 %. Arguments go to pytest:
#   ./scripts/coverage.sh                            # all tests but those on emulated ARM, whose Python is not measured
#   ./scripts/coverage.sh --append tests/packages/test_ios.py # adds to what was measured before
#   ./scripts/coverage.sh --html                     # also a page, .coverage/html/index.html
# MBN_BROWSER=no and MBN_ANDROID=no leave tests out as in scripts/test.sh.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/environment.sh
environment
append=no
report=()
while [ $# -gt 0 ]; do
    case $1 in
        --append) append=yes ;;
        --html) report+=(--html .coverage/html) ;;
        *) break ;;
    esac
    shift
done
export MBN_ARM=no
test_tools
[ $append = yes ] || rm -rf .coverage
mkdir -p .coverage
failed=0
.venv/bin/python -m coverage run -m pytest "$@" || failed=$?
if [ -e .coverage/data ]; then
    .venv/bin/python -m coverage combine --quiet --append
else
    .venv/bin/python -m coverage combine --quiet
fi
.venv/bin/python scripts/coverage_report.py ${report[@]+"${report[@]}"} || failed=$?
exit $failed
