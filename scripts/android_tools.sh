#!/usr/bin/env bash
# Tools of Android developers under .android/ for the tests of `bundle android`: Debian's aapt2, zipalign, apksigner and
# the framework's resources, and the Kotlin compiler from npm; unpacked without any change to this machine. Needs apt and
# dpkg-deb, npm and a JDK, but not root; mirror and index are those that this machine's apt and npm are set up with.
# A finished part is left alone; remove .android/ to make it anew.
set -euo pipefail
cd "$(dirname "$0")/.."
readonly top=$PWD/.android kotlin=2.3.21

packages() { # aapt2, zipalign, apksigner.jar and framework-res.apk under root/
  local options archive
  mkdir -p "$top"/{lists,archives}/partial "$top"/state "$top"/root/usr/{bin,sbin,lib}
  for archive in bin sbin lib; do ln -sfn "usr/$archive" "$top/root/$archive"; done
  # The machine's own list of packages: what is installed (a JDK) is not fetched again.
  options=(-qq -o "Dir::State=$top/state" -o "Dir::State::lists=$top/lists" -o Dir::State::status=/var/lib/dpkg/status
    -o "Dir::Cache=$top" -o "Dir::Cache::archives=$top/archives" -o APT::Install-Recommends=false
    -o APT::Sandbox::User=root -o Acquire::Languages=none -o Acquire::Retries=3 -o Debug::NoLocking=true)
  apt-get "${options[@]}" update || true # one index of several that fails may not matter: the next line shows
  apt-get "${options[@]}" --yes --download-only install aapt zipalign apksigner android-framework-res >/dev/null
  for archive in "$top"/archives/*.deb; do
    dpkg-deb --fsys-tarfile "$archive" | tar --extract --keep-directory-symlink --directory "$top/root"
  done
  rm -rf "$top"/{lists,archives,state} "$top"/*.bin
}

compiler() { # the Kotlin compiler under kotlin/
  npm install --loglevel=error --no-audit --no-fund --ignore-scripts --prefix "$top/kotlin" "kotlin-compiler@$kotlin" >&2
}

made=$top/made-by
if cmp -s scripts/android_tools.sh "$made"; then exit 0; fi
for tool in apt-get dpkg-deb tar java npm; do
  command -v "$tool" >/dev/null || { echo "Android's tools are set up with $tool, which is not here" >&2; exit 4; }
done
echo "setting up Android's tools in .android (about 150 MB to fetch; once)" >&2
rm -rf "$top"
mkdir "$top"
packages
compiler
cp scripts/android_tools.sh "$made"
