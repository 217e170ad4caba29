#!/usr/bin/env bash
# An emulated ARM userland under .arm/: Python, the device's interpreters and QEMU's user mode, without chroot,
# binfmt or any change to this machine. Needs apt, dpkg-deb and root; mirror and index are those this machine's
# apt and pip are set up with. A finished part is left alone; remove .arm/ to make it anew.
set -euo pipefail
cd "$(dirname "$0")/.."
readonly top=$PWD/.arm

fetch() { # fetch FOLDER ARCHITECTURE PACKAGE...: the packages with all that they need, as .deb files
  local folder=$1 architecture=$2
  shift 2
  mkdir -p "$folder"/{lists,archives}/partial "$folder/state"
  local options=(-qq -o "APT::Architecture=$architecture" -o "APT::Architectures=$architecture"
    -o "Dir::State=$folder/state" -o "Dir::State::lists=$folder/lists" -o Dir::State::status=/dev/null
    -o "Dir::Cache=$folder" -o "Dir::Cache::archives=$folder/archives" -o APT::Install-Recommends=false
    -o APT::Sandbox::User=root -o Acquire::Languages=none -o Acquire::Retries=3)
  apt-get "${options[@]}" update || true # one index of several that fails may not matter: the next line shows
  apt-get "${options[@]}" --yes --download-only install "$@" >/dev/null
}

unpack() { # unpack FOLDER ROOT: every fetched package, over merged /usr links; then drop the archives
  mkdir -p "$2/usr"/{bin,sbin,lib}
  local name archive
  for name in bin sbin lib; do ln -sfn "usr/$name" "$2/$name"; done
  for archive in "$1"/archives/*.deb; do
    dpkg-deb --fsys-tarfile "$archive" | tar --extract --keep-directory-symlink --directory "$2"
  done
  rm -rf "$1"
}

wheels() { # wheels ROOT FOLDER PLATFORMS OPTION_OR_REQUIREMENT...: files for the root's own Python; none is built
  local root=$1 folder=$2 platform
  local options=(-qq --disable-pip-version-check --only-binary=:all: --implementation cp --dest "$folder.part")
  options+=(--python-version "$(basename "$(find "$root/usr/lib" -maxdepth 1 -name 'python3.*')" | tr -d a-z)")
  for platform in $3; do options+=(--platform "$platform"); done
  shift 3
  .venv/bin/python -m pip download "${options[@]}" "$@"
  mv "$folder.part" "$folder"
}

view() { # view ROOT CPU PART: the root with that processor's /proc/cpuinfo
  # QEMU 7.2 shows the host's x86 text, with which litert and onnxruntime choose kernels that crash. A folder of
  # links for each processor, so that several can run at once.
  local folder=$top/$2 name
  mkdir -p "$folder/proc"
  for name in usr bin sbin lib etc; do ln -sfn "../$1/$name" "$folder/$name"; done
  local features="fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid"
  [ "$2" != cortex-a76 ] || features+=" atomics fphp asimdhp asimdrdm lrcpc dcpop asimddp"
  [ "$1" != armv7l ] || features="half thumb fastmult vfp edsp neon vfpv3 tls vfpv4 idiva idivt vfpd32 lpae"
  printf 'processor\t: 0\nFeatures\t: %s\nCPU implementer\t: 0x41\nCPU architecture: %s\n' "$features" \
    "$([ "$1" = armv7l ] && echo 7 || echo 8)" >"$folder/proc/cpuinfo"
  printf 'CPU variant\t: 0x0\nCPU part\t: %s\nCPU revision\t: 4\n' "$3" >>"$folder/proc/cpuinfo"
}

made=$top/made-by
if cmp -s scripts/arm_userland.sh "$made"; then exit 0; fi
for tool in apt-get dpkg-deb tar; do
  command -v "$tool" >/dev/null || { echo "the emulated ARM userland is made with $tool, which is not here" >&2; exit 4; }
done
echo "making the emulated ARM userland in .arm (about 450 MB; once)" >&2
rm -rf "$top"
mkdir "$top"
fetch "$top/qemu.debs" "$(dpkg --print-architecture)" qemu-user
unpack "$top/qemu.debs" "$top/qemu"
find "$top/qemu/usr/bin" -name 'qemu-*' ! -name qemu-aarch64 ! -name qemu-arm -delete
fetch "$top/aarch64.debs" arm64 python3 libstdc++6
unpack "$top/aarch64.debs" "$top/aarch64"
fetch "$top/armv7l.debs" armhf python3 libstdc++6 python3-numpy python3-pil # no index has these two as wheels
unpack "$top/armv7l.debs" "$top/armv7l"
view aarch64 cortex-a53 0xd03
view aarch64 cortex-a72 0xd08
view aarch64 cortex-a76 0xd0b
view armv7l cortex-a7 0xc07
glibc="2_17 2_27 2_28 2_34"
wheels "$top/aarch64" "$top/wheels-aarch64" "$(printf 'manylinux_%s_aarch64 ' $glibc)" \
  ai-edge-litert onnxruntime numpy pillow
wheels "$top/armv7l" "$top/wheels-armv7l" "$(printf 'manylinux_%s_armv7l ' $glibc) linux_armv7l" --no-deps tflite-runtime
wheels "$top/armv7l" "$top/wheels-any" any 'typer<0.29' rich starlette uvicorn h11 # the same for both
cp scripts/arm_userland.sh "$made"
