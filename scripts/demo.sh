#!/usr/bin/env bash
# The main job on what ships with the package, offline, in about a minute: makes .venv if it is not there,
# then `mbn-deploy demo`. Arguments go to the command.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/environment.sh
environment
exec .venv/bin/mbn-deploy demo "$@"
