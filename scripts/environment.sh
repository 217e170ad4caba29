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
