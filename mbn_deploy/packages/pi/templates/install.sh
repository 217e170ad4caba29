#!/bin/sh
# Makes a virtual environment from the wheels in this folder, without a network, and checks that the models compute
# here what they computed on the workstation. It can be run again; finished steps are skipped.
#
#   ./install.sh                  install and verify
#   ./install.sh --print-unit     print the systemd unit for this folder, for /etc/systemd/system
#
# PYTHON=/path/to/python3.11 chooses the Python, VENV=/path/to/folder where the environment is made.
set -eu

script=$0
[ ! -L "$script" ] || script=$(readlink -f -- "$script") # a link to the script may lie anywhere
here=$(CDPATH='' cd -- "$(dirname -- "$script")" && pwd)
venv=${VENV:-$here/venv}
# `mbn-deploy bundle pi` wrote the settings.
arch='' bits='' python_version='' backend='' # the board that the package is for
system_site='' modules='' packages=''        # whether the environment sees the system's modules; those that it needs
dependencies=''                              # whether pip checks dependencies
unused=''                                    # patterns of files that are removed after the installation
# shellcheck source=/dev/null
. "$here/settings"

fail() { # fail EXIT_CODE LINE...: print what is wrong and what to do, and exit
  code=$1
  shift
  printf 'install.sh: %s\n' "$@" >&2
  exit "$code"
}

print_unit() { # print the unit with this folder's path, which systemd must understand without quotes
  case $here in
  *[!A-Za-z0-9/._+-]*) fail 2 "systemd needs a path with only letters, digits and / . _ + -, not $here" ;;
  /home/* | /root/*) fail 2 "the service's user cannot read $here: move the folder, for instance to /opt, and install again" ;;
  esac
  case $venv in
  "$here/venv") sed "s|@FOLDER@|$here|g" "$here/mbn-deploy.service" ;;
  *) fail 2 "the unit is for an environment in $here/venv; install without VENV=" ;;
  esac
}

find_python() { # print the Python to use: the requested one, else the first of the right version
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

check_python() { # ask $python itself for its version, word size and processor
  found=$("$python" -c 'import os, struct, sys
print("%d.%d" % sys.version_info[:2], 8 * struct.calcsize("P"), os.uname().machine)') ||
    fail 3 "$python does not run"
  version=${found%% *}
  machine=${found##* }
  size=${found#* }
  size=${size%% *}
  case $size-$machine in
  64-aarch64 | 32-armv7l | 32-armv8l | 32-aarch64) ;;
  32-armv6l) fail 3 "this board has an ARMv6 processor (Raspberry Pi 1 and Zero); no interpreter has wheels for it" ;;
  *) fail 3 "this package is for ARM boards ($arch); this machine is $machine" ;;
  esac
  [ "$size" = "$bits" ] ||
    fail 3 "this package is for a $bits-bit system ($arch); the Python here has $size bits, whatever the kernel has." \
      "Make the package again with: mbn-deploy bundle pi ... --arch $([ "$size" = 64 ] && echo aarch64 || echo armv7l)"
  [ "$version" = "$python_version" ] ||
    fail 3 "the wheels are for Python $python_version; $python is $version." \
      "Make the package again with: mbn-deploy bundle pi ... --python $version" \
      "or choose another Python: PYTHON=/path/to/python$python_version $0"
  "$python" -c 'import venv' 2>/dev/null ||
    fail 4 "$python lacks the module venv: sudo apt install python3-venv"
}

check_packages() { # check the modules that come from the system's packages, because they have no wheels
  for module in $modules; do
    "$python" -c "import $module" 2>/dev/null ||
      fail 4 "$python lacks $module, which comes from the system: sudo apt install $packages"
  done
}

installed() { # succeed if the environment holds exactly this package's requirements
  cmp -s "$here/requirements.txt" "$venv/.mbn-deploy" && [ -x "$venv/bin/mbn-deploy" ]
}

make_venv() { # start anew, even if another run left an unfinished environment
  if [ -e "$venv" ] && [ ! -e "$venv/.mbn-deploy" ] && [ ! -e "$venv/.mbn-deploy-unfinished" ]; then
    fail 2 "$venv exists and was not made by this script; move it away, or choose another path: VENV=/path/to/folder $0"
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

fill_venv() { # run pip from its wheel, so that neither ensurepip nor the system's pip is needed
  set -- "$here"/wheels/pip-*.whl
  # Debian's numpy and Pillow are older than the wheels require, but were tested with them: do not check dependencies.
  [ "$dependencies" = checked ] || set -- "$1" --no-deps
  installer=$1/pip
  shift
  PIP_CONFIG_FILE=/dev/null PYTHONDONTWRITEBYTECODE=1 "$venv/bin/python" "$installer" --isolated install --quiet --no-input \
    --disable-pip-version-check --no-cache-dir --no-compile --no-index --find-links "$here/wheels" --require-hashes \
    --only-binary=:all: "$@" --requirement "$here/requirements.txt" ||
    fail 1 "pip could not install the wheels (above); is the copy of this folder complete?"
  # shellcheck disable=SC2086 # patterns must be expanded
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
  fail 5 "the models do not compute here what they computed on the workstation (above)"
echo "Done. Try: '$venv/bin/mbn-deploy' run '$here/models' PICTURE" >&2
