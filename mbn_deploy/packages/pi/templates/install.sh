#!/bin/sh
# Makes a virtual environment from the wheels in this folder, without a network, and checks that the models
# answer here as where they were made. Running it again is safe: what is done already is left alone.
#
#   ./install.sh                  install and verify
#   ./install.sh --print-unit     print the systemd unit for this folder, to be put into /etc/systemd/system
#
# PYTHON=/path/to/python3.11 chooses the Python, VENV=/path/to/folder the place of the environment.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
venv=${VENV:-$here/venv}
# What the package was made for; `mbn-deploy bundle pi` wrote it.
arch='' bits='' python_version='' backend='' # the board
system_site='' modules='' packages=''        # whether the environment sees the system's modules, those it needs
dependencies=''                              # whether pip checks them
unused=''                                    # patterns of what is taken away of the wheels
# shellcheck source=/dev/null
. "$here/settings"

fail() { # fail EXIT_CODE LINE...: say what is wrong and what to do, and end
  code=$1
  shift
  printf 'install.sh: %s\n' "$@" >&2
  exit "$code"
}

print_unit() { # the unit with this folder's path, if systemd can be told it without quoting
  case $here in
  *[!A-Za-z0-9/._+-]*) fail 2 "systemd needs a path of letters, digits and / . _ + - only, not $here" ;;
  /home/* | /root/*) fail 2 "the service's user cannot read $here: move the folder, to /opt for instance, and install again" ;;
  esac
  case $venv in
  "$here/venv") sed "s|@FOLDER@|$here|g" "$here/mbn-deploy.service" ;;
  *) fail 2 "the unit is for an environment in $here/venv; install without VENV=" ;;
  esac
}

find_python() { # the Python to use: the one asked for, else the first that has the right version
  if [ -n "${PYTHON:-}" ]; then
    printf '%s\n' "$PYTHON"
  elif command -v "python$python_version"; then
    :
  elif command -v python3; then
    :
  else
    fail 4 "no python3 is installed: sudo apt install python3"
  fi
}

check_python() { # version, word size and processor of $python, as it sees them itself
  found=$("$python" -c 'import os, struct, sys
print("%d.%d" % sys.version_info[:2], 8 * struct.calcsize("P"), os.uname().machine)') ||
    fail 3 "$python does not run"
  version=${found%% *}
  machine=${found##* }
  size=${found#* }
  size=${size%% *}
  case $size-$machine in
  64-aarch64 | 32-armv7l | 32-armv8l | 32-aarch64) ;;
  32-armv6l) fail 3 "this board has an ARMv6 processor (Raspberry Pi 1 and Zero): no interpreter has wheels for it" ;;
  *) fail 3 "this package is for ARM boards ($arch); this machine is $machine" ;;
  esac
  [ "$size" = "$bits" ] ||
    fail 3 "this package is for a $bits-bit system ($arch); the Python here is of $size bits, whatever the kernel is." \
      "Make the package again with: mbn-deploy bundle pi ... --arch $([ "$size" = 64 ] && echo aarch64 || echo armv7l)"
  [ "$version" = "$python_version" ] ||
    fail 3 "the wheels here are for Python $python_version; $python is $version." \
      "Make the package again with: mbn-deploy bundle pi ... --python $version" \
      "or name another Python: PYTHON=/path/to/python$python_version $0"
  "$python" -c 'import venv' 2>/dev/null ||
    fail 4 "$python has no module venv: sudo apt install python3-venv"
}

check_packages() { # modules that come from the system's packages, because there are no wheels of them
  for module in $modules; do
    "$python" -c "import $module" 2>/dev/null ||
      fail 4 "$python lacks $module, which comes from the system: sudo apt install $packages"
  done
}

installed() { # whether the environment holds exactly what this package brings
  cmp -s "$here/requirements.txt" "$venv/.mbn-deploy" && [ -x "$venv/bin/mbn-deploy" ]
}

make_venv() { # anew: an environment that another run began and did not finish is of no use
  if [ -e "$venv" ] && [ ! -e "$venv/.mbn-deploy" ] && [ ! -e "$venv/.mbn-deploy-unfinished" ]; then
    fail 2 "$venv is there and was not made by this script; move it away, or choose another place: VENV=/path/to/folder $0"
  fi
  rm -rf "$venv"
  mkdir -p "$venv"
  : >"$venv/.mbn-deploy-unfinished"
  echo "making $venv" >&2
  if [ "$system_site" = yes ]; then
    "$python" -m venv --without-pip --system-site-packages "$venv"
  else
    "$python" -m venv --without-pip "$venv"
  fi
}

fill_venv() { # pip runs from its wheel: neither ensurepip nor the system's pip is needed
  set -- "$here"/wheels/pip-*.whl
  # Debian's numpy and Pillow are older than the wheels ask for, and tried with them: nothing is checked then.
  [ "$dependencies" = checked ] || set -- "$1" --no-deps
  installer=$1/pip
  shift
  PIP_CONFIG_FILE=/dev/null PYTHONDONTWRITEBYTECODE=1 "$venv/bin/python" "$installer" --isolated install --quiet --no-input \
    --disable-pip-version-check --no-cache-dir --no-compile --no-index --find-links "$here/wheels" --require-hashes \
    --only-binary=:all: "$@" --requirement "$here/requirements.txt" ||
    fail 1 "pip could not install the wheels (above); is the copy of this folder complete?"
  # shellcheck disable=SC2086 # patterns
  (cd "$venv"/lib/python*/site-packages && rm -rf -- $unused)
  mv "$venv/.mbn-deploy-unfinished" "$venv/.mbn-deploy"
  cp "$here/requirements.txt" "$venv/.mbn-deploy"
}

case ${1:-} in
'') ;;
--print-unit)
  print_unit
  exit 0
  ;;
*) fail 2 "unknown option $1; there is --print-unit" ;;
esac

python=$(find_python)
check_python
check_packages
if installed; then
  echo "$venv is up to date" >&2
else
  make_venv
  fill_venv
fi
"$venv/bin/mbn-deploy" verify --backend "$backend" "$here/models" ||
  fail 5 "the models do not answer here as where they were made (above)"
echo "Done. Try: '$venv/bin/mbn-deploy' run '$here/models' PICTURE" >&2
