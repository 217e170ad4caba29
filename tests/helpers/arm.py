"""The emulated ARM userland that scripts/arm_userland.sh makes: its processors, and the project installed there."""

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ARM = ROOT / ".arm"
AARCH64 = ("cortex-a53", "cortex-a72", "cortex-a76")  # the last one has the dot product
ARMV7L = "cortex-a7"
READY = (ARM / "made-by").is_file()
REASON = "scripts/arm_userland.sh has not made the emulated ARM userland (it needs apt, dpkg and root)"


@dataclass(frozen=True)
class Board:
    """A processor, and the folder where pip installed the project for it."""

    cpu: str
    site: Path

    def python(self, *args, timeout=120, environment=None):
        """Run the userland's Python with `args`; what it printed, as text."""
        more = [word for name, value in (environment or {}).items() for word in ("-E", f"{name}={value}")]
        words = [*emulator(self.cpu, self.site, *more), *map(str, args)]
        return subprocess.run(words, capture_output=True, text=True, timeout=timeout, check=False)

    def command(self, *args, timeout=120, environment=None):
        """`mbn-deploy ARGS` as pip installed it."""
        return self.python(self.site / "bin" / "mbn-deploy", *args, timeout=timeout, environment=environment)


def emulator(cpu, site, *options):
    """Return the command of the userland's Python on `cpu`; `options` are QEMU's. It sees only `site`'s packages."""
    root, qemu = ARM / cpu, ARM / "qemu"
    paths, program, extra = [site], "qemu-aarch64", []
    if cpu == ARMV7L:
        paths.append(root / "usr/lib/python3/dist-packages")  # numpy and Pillow, which no index has for armv7l
        libraries = root / "usr/lib/arm-linux-gnueabihf"
        program, extra = "qemu-arm", ["-E", f"LD_LIBRARY_PATH={libraries / 'blas'}:{libraries / 'lapack'}"]
    loaders = sorted(qemu.glob("lib*/ld-linux*"))  # none where QEMU is a static program
    libraries = ":".join(map(str, qemu.glob("usr/lib/*-linux-gnu*")))
    loader = [loaders[0], "--library-path", libraries] if loaders else []
    environment = {
        "PYTHONPATH": ":".join(map(str, paths)),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONHASHSEED": "0",
        "OPENBLAS_NUM_THREADS": "1",
        "COLUMNS": "80",
        "TERM": "dumb",
    }
    for name, value in environment.items():
        extra += ["-E", f"{name}={value}"]
    words = [*loader, qemu / "usr/bin" / program, *options, "-cpu", cpu, "-L", root, *extra]
    return [*map(str, words), str(root / "usr/bin/python3"), "-S"]


def build_wheel(folder):
    """Build the project's own wheel from a copy, since setuptools leaves a build folder behind."""
    copy = folder / "source"
    shutil.copytree(ROOT / "mbn_deploy", copy / "mbn_deploy", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    _pip("wheel", "--no-deps", "--wheel-dir", folder, copy)
    return next(folder.glob("mbn_deploy-*.whl"))


def install(wheel, folder, machine):
    """Install `wheel` with its dependencies on a device, from the wheels of the userland alone."""
    version = next((ARM / machine / "usr/lib").glob("python3.*")).name.removeprefix("python")
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in (17, 27, 28, 34)] + [f"linux_{machine}"]
    options = ["--no-index", "--only-binary=:all:", "--implementation", "cp", "--python-version", version]
    for name in ("any", machine):
        options += ["--find-links", ARM / f"wheels-{name}"]
    for platform in platforms:
        options += ["--platform", platform]
    if machine == "aarch64":
        _pip("install", "--target", folder, *options, f"{wheel}[litert,onnx]")
        return folder
    # Debian's numpy and Pillow are no wheels, so that pip cannot see them.
    names = [path.name.split("-")[0] for path in (ARM / "wheels-any").iterdir()]
    _pip("install", "--target", folder, *options, "--no-deps", wheel, "tflite-runtime", *names)
    return folder


def _pip(*args):
    subprocess.run([sys.executable, "-m", "pip", *map(str, args), "-qq", "--disable-pip-version-check"], check=True)
