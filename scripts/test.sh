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
.venv/bin/mypy
[ "${MBN_ANDROID:-}" = no ] || scripts/android_tools.sh || echo "there are no Android tools (above): their tests are skipped" >&2
[ "${MBN_BROWSER:-}" = no ] || scripts/browser.sh || echo "there is no browser (above): its tests are skipped" >&2
if [ "${MBN_ARM:-}" != no ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null; then
    scripts/arm_userland.sh || echo "no ARM userland could be made (above): its tests are skipped" >&2
fi
left_out=()
if [ "${MBN_ARM:-}" = no ]; then left_out+=("not arm"); fi
if [ "${MBN_BROWSER:-}" = no ]; then left_out+=("not browser"); fi
if [ "${MBN_ANDROID:-}" = no ]; then left_out+=("not android"); fi
if [ ${#left_out[@]} -gt 0 ]; then
    marks=$(printf ' and %s' "${left_out[@]}")
    set -- -m "${marks# and }" "$@"
fi
.venv/bin/python -m pytest "$@"
