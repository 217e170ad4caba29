#!/usr/bin/env bash
# A browser and its driver under .browser/ for the tests of web pages: Debian's chromium, unpacked without any change
# to this machine. Needs apt and dpkg-deb, but not root; the mirror is the one this machine's apt is set up with.
# Where the machine has both already, nothing is fetched. Remove .browser/ to make it anew.
set -euo pipefail
cd "$(dirname "$0")/.."
readonly top=$PWD/.browser

if command -v chromium >/dev/null && command -v chromedriver >/dev/null; then exit 0; fi
if cmp -s scripts/browser.sh "$top/made-by"; then exit 0; fi
for tool in apt-get dpkg-deb tar; do
  command -v "$tool" >/dev/null || { echo "the browser is unpacked with $tool, which is not here" >&2; exit 4; }
done
echo "unpacking a browser in .browser (about 130 MB to fetch, 450 MB on disk; once)" >&2
rm -rf "$top"
mkdir -p "$top"/{lists,archives}/partial "$top"/state "$top"/root/usr/{bin,sbin,lib}
for name in bin sbin lib; do ln -s "usr/$name" "$top/root/$name"; done
# The machine's own list of packages: what is installed is not fetched again.
options=(-qq -o "Dir::State=$top/state" -o "Dir::State::lists=$top/lists" -o "Dir::State::status=/var/lib/dpkg/status"
  -o "Dir::Cache=$top" -o "Dir::Cache::archives=$top/archives" -o APT::Install-Recommends=false
  -o APT::Sandbox::User=root -o Acquire::Languages=none -o Acquire::Retries=3 -o Debug::NoLocking=true)
apt-get "${options[@]}" update || true # one index of several that fails may not matter: the next line shows
apt-get "${options[@]}" --yes --download-only install chromium chromium-driver fontconfig-config fonts-dejavu-core >/dev/null
for archive in "$top"/archives/*.deb; do
  dpkg-deb --fsys-tarfile "$archive" | tar --extract --keep-directory-symlink --directory "$top/root"
done
rm -rf "$top"/{lists,archives,state} "$top"/*.bin
cp scripts/browser.sh "$top/made-by"
