# Sourced by the other scripts: makes .venv once, with everything that the workstation needs.
# Uses the python3 found on PATH; PYTHON=/path/to/python3.12 chooses another one.
environment() { # extras and groups changed since the last time mean a new install
    local python=${PYTHON:-python3} stamp=.venv/.installed-for
    "$python" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' || {
        echo "mbn-deploy needs Python 3.10 to 3.13; this is $("$python" --version). Set PYTHON=/path/to/python3.12" >&2
        return 4
    }
    if ! cmp -s pyproject.toml "$stamp"; then
        echo "making .venv (TensorFlow and friends, about 2 GB; once)" >&2
        "$python" -m venv .venv
        .venv/bin/python -m pip install --quiet --upgrade 'pip>=25.1'
        # setuptools warns of every editable installation, at length.
        PYTHONWARNINGS=ignore .venv/bin/python -m pip install --quiet --editable '.[export,serve]' --group test
        cp pyproject.toml "$stamp"
    fi
}

test_tools() { # what some tests need beside it; MBN_ANDROID=no, MBN_BROWSER=no, MBN_ARM=no (tests/conftest.py) leave them out
    [ "${MBN_ANDROID:-}" = no ] || scripts/android_tools.sh || echo "there are no Android tools (above): their tests are skipped" >&2
    [ "${MBN_BROWSER:-}" = no ] || scripts/browser.sh || echo "there is no browser (above): its tests are skipped" >&2
    if [ "${MBN_ARM:-}" != no ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null; then
        scripts/arm_userland.sh || echo "no ARM userland could be made (above): its tests are skipped" >&2
    fi
}
