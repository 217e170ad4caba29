"""Packages for ARM boards: what is in them, what is refused, and nothing half-written. No network."""

import csv
import hashlib
import io
import ipaddress
import json
import os
import shutil
import stat
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest
from cli_run import run
from made_wheels import write_wheel, write_wheels

from mbn_deploy.errors import InputError, UnknownNameError, UsageError
from mbn_deploy.manifest import Manifest
from mbn_deploy.packages.pi import package as module
from mbn_deploy.packages.pi import wheelhouse
from mbn_deploy.packages.pi.board import BACKENDS, SYSTEMS, Board
from mbn_deploy.packages.pi.own_wheel import OWN, own_metadata, rebuilt_wheel
from mbn_deploy.packages.pi.package import write_pi_package
from mbn_deploy.packages.pi.wheelhouse import build_wheelhouse
from mbn_deploy.runtime import open_bundle

SCRIPT = Path(module.__file__).with_name("templates") / "install.sh"


@pytest.fixture(scope="session")
def wheels(tmp_path_factory):
    """A wheel for everything that this program asks for, of a version that fits, for 64-bit boards."""
    return write_wheels(tmp_path_factory.mktemp("wheels"))


def content(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# --- the wheel that is made again ---


def installed_from(wheel, folder):
    command = [sys.executable, "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-index", "--no-deps"]
    subprocess.run([*command, "--target", folder, wheel], check=True)
    return folder


def test_the_own_wheel_is_one_that_pip_installs(tmp_path):
    wheel = rebuilt_wheel(OWN)
    assert wheel == rebuilt_wheel(OWN)
    (tmp_path / wheel.name).write_bytes(wheel.data)
    site = installed_from(tmp_path / wheel.name, tmp_path / "site")
    package = Path(module.__file__).parents[2]
    own = {n: d for n, d in content(package).items() if "__pycache__" not in n and not n.startswith(".")}
    assert {n: d for n, d in content(site / "mbn_deploy").items() if "__pycache__" not in n} == own
    assert (site / "bin" / "mbn-deploy").is_file()


def test_a_wheel_that_pip_installed_comes_out_with_the_same_files(tmp_path):
    """Of this project, from a site without the checkout: what a user has."""
    first = rebuilt_wheel(OWN)
    (tmp_path / first.name).write_bytes(first.data)
    site = installed_from(tmp_path / first.name, tmp_path / "site")
    code = (
        "import sys; from mbn_deploy.packages.pi.own_wheel import rebuilt_wheel; import mbn_deploy; "
        "assert mbn_deploy.__file__.startswith(sys.argv[1]); wheel = rebuilt_wheel('mbn-deploy'); "
        "open(sys.argv[2], 'wb').write(wheel.data)"
    )
    environment = os.environ | {"PYTHONPATH": str(site)}
    command = [sys.executable, "-c", code, str(site), str(tmp_path / "again.whl")]
    subprocess.run(command, check=True, env=environment, cwd=tmp_path)
    assert zip_content(tmp_path / "again.whl") == zip_content(tmp_path / first.name)


def zip_content(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.mark.parametrize("name", [OWN, "pip"])
def test_record_names_every_file_with_its_hash(name):
    import base64

    wheel = rebuilt_wheel(name)
    assert wheel.name == f"{name.replace('-', '_')}-{metadata.version(name)}-py3-none-any.whl"
    files = zip_content(io.BytesIO(wheel.data))
    record = next(n for n in files if n.endswith(".dist-info/RECORD"))
    rows = {row[0]: row[1:] for row in csv.reader(files[record].decode().splitlines())}
    assert set(rows) == set(files)
    assert rows.pop(record) == ["", ""]
    for path, (digest, size) in rows.items():
        expected = base64.urlsafe_b64encode(hashlib.sha256(files[path]).digest()).rstrip(b"=").decode()
        assert (digest, int(size)) == (f"sha256={expected}", len(files[path]))


def test_compiled_and_missing_distributions_are_refused():
    with pytest.raises(InputError, match="numpy"):
        rebuilt_wheel("numpy")
    with pytest.raises(InputError, match="mbn-deploy-that-nobody-wrote"):
        rebuilt_wheel("mbn-deploy-that-nobody-wrote")


# --- boards and their wheels ---


def test_the_first_choice_of_every_architecture_can_be_made():
    for architecture, backends in BACKENDS.items():
        assert Board.of(architecture).backend == backends[0]
    assert Board.of(python="3.13").platforms[0] == "manylinux_2_41_aarch64"
    assert not Board.of(python="3.13", camera=True).constraints
    assert Board.of(python="3.11", camera=True).packages == ("python3-numpy", "python3-pil", "python3-picamera2")


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"architecture": "arm64"}, UnknownNameError, "architecture"),
        ({"python": "2.7"}, UnknownNameError, "Python version"),
        ({"backend": "tensorflow"}, UnknownNameError, "backend"),
        ({"architecture": "armv7l", "backend": "litert"}, UsageError, "64-bit system"),
        ({"architecture": "armv7l", "python": "3.13"}, UsageError, "CPython 3.11"),
        ({"python": "3.12", "backend": "tflite"}, UsageError, "litert or onnx"),
        ({"python": "3.12", "camera": True}, UsageError, "3.11 or 3.13"),
    ],
)
def test_what_cannot_work_is_said_before_anything_is_fetched(options, error, words):
    with pytest.raises(error, match=words):
        Board.of(**options)


def test_markers_are_those_of_the_board_not_of_this_machine(tmp_path, monkeypatch):
    """A requirement for another Python is left out, one for the board is fetched, and so on to the end."""
    requires = [
        "first", 'never; python_version >= "3.12"', 'windows; sys_platform == "win32"',
        'x86; platform_machine == "x86_64"',
        'Board.Only>=2,<4; platform_machine == "aarch64" and python_version < "3.12"',
    ]  # fmt: skip
    monkeypatch.setattr(wheelhouse, "own_requirements", lambda: requires)
    write_wheel(tmp_path / "w", "first", "1.0", ['second[more]>=1; os_name == "posix"'])
    write_wheel(tmp_path / "w", "second", "1.5", ['third; extra == "more"', 'other; extra == "less"', "first"])
    write_wheel(tmp_path / "w", "third", "2.0", ["board-only<3"])
    for version in ("2.5", "3.5", "4.5"):
        write_wheel(tmp_path / "w", "board_only", version)
    house = build_wheelhouse(Board.of(), [tmp_path / "w"])
    pinned = [line.split()[0] for line in house.requirements.splitlines()]
    assert pinned == [
        "board-only==2.5",
        "first==1.0",
        f"mbn-deploy=={metadata.version(OWN)}",
        "second==1.5",
        "third==2.0",
    ]
    for line in house.requirements.splitlines():
        name = line.split("==")[0].replace("-", "_")
        wheel = next(data for file, data in house.wheels.items() if file.startswith(name + "-"))
        assert line.endswith("sha256:" + hashlib.sha256(wheel).hexdigest())
    assert "pip" in {name.split("-")[0] for name in house.wheels}


def test_a_camera_takes_the_systems_numpy_and_what_fits_it(tmp_path, monkeypatch):
    monkeypatch.setattr(wheelhouse, "own_requirements", lambda: ["numpy>=1.26", "ml-dtypes", "pillow"])
    write_wheel(tmp_path / "w", "ml_dtypes", "0.5")
    write_wheel(tmp_path / "w", "ml_dtypes", "0.6", ["numpy>=2"])
    house = build_wheelhouse(Board.of(camera=True), [tmp_path / "w"])
    assert {name.split("-")[0] for name in house.wheels} == {"ml_dtypes", "mbn_deploy", "pip"}
    assert "ml-dtypes==0.5" in house.requirements


def test_what_debian_brings_is_not_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(wheelhouse, "own_requirements", lambda: ["numpy>=1.26", "pillow", "first"])
    write_wheel(tmp_path / "w", "first", "1.0", ["numpy<2"])
    house = build_wheelhouse(Board.of("armv7l"), [tmp_path / "w"])
    assert {name.split("-")[0] for name in house.wheels} == {"first", "mbn_deploy", "pip"}


def test_a_wheel_that_is_not_there_is_named_with_pips_words(tmp_path, monkeypatch):
    monkeypatch.setattr(wheelhouse, "own_requirements", lambda: ["first>=2"])
    write_wheel(tmp_path / "w", "first", "1.0")
    with pytest.raises(InputError, match=r"first>=2.*3\.11.*aarch64[\s\S]*ERROR"):
        build_wheelhouse(Board.of(), [tmp_path / "w"])


def test_requirements_that_contradict_each_other_end(tmp_path, monkeypatch):
    monkeypatch.setattr(wheelhouse, "own_requirements", lambda: ["first<2", "second"])
    write_wheel(tmp_path / "w", "first", "1.0")
    write_wheel(tmp_path / "w", "first", "2.0")
    write_wheel(tmp_path / "w", "second", "1.0", ["first>=2"])
    with pytest.raises(InputError, match="first"):
        build_wheelhouse(Board.of(), [tmp_path / "w"])


# --- the package ---


@pytest.fixture(scope="module")
def package(exported, wheels, tmp_path_factory):
    return write_pi_package(exported[0], tmp_path_factory.mktemp("package") / "board", wheels=[wheels])


@pytest.fixture
def made(package, tmp_path):
    """A copy to be changed."""
    folder = shutil.copytree(package.folder, tmp_path / "board")
    return replace(package, folder=folder, archive=Path(shutil.copy(package.archive, tmp_path)))


def test_the_package_holds_a_bundle_of_the_files_that_run_there(exported, made):
    whole, part = open_bundle(exported[0]), open_bundle(made.folder / "models")
    assert [entry.format for entry in part.manifest.files] == ["tflite", "tflite"]
    assert part.labels == whole.labels
    assert part.manifest.golden_sha256 == whole.manifest.golden_sha256
    text = (made.folder / "models" / "manifest.json").read_bytes()
    assert Manifest.from_json(text).files == tuple(e for e in whole.manifest.files if e.format == "tflite")


def test_folder_and_archive_are_the_same_and_list_themselves(made):
    files = content(made.folder)
    with tarfile.open(made.archive) as archive:
        inside = {m.name: archive.extractfile(m).read() for m in archive.getmembers()}
        modes = {m.name.removeprefix("board/"): m.mode for m in archive.getmembers()}
        assert {(m.uid, m.gid, m.uname, m.mtime) for m in archive.getmembers()} == {(0, 0, "", 315532800)}
    assert inside == {f"board/{name}": data for name, data in files.items()}
    for name in files:
        executable = bool((made.folder / name).stat().st_mode & stat.S_IXUSR)
        assert executable == (name in ("install.sh", "classify.py")) == (modes[name] == 0o755)
    assert set(json.loads(files["package.json"])["files"]) | {"package.json"} == set(files)


def test_the_same_bundle_gives_the_same_bytes(exported, wheels, made, tmp_path):
    again = write_pi_package(exported[0], tmp_path / "elsewhere" / "board", wheels=[wheels])
    assert again.archive.read_bytes() == made.archive.read_bytes()


def test_a_package_replaces_a_package_and_nothing_else(exported, wheels, made, tmp_path):
    with pytest.raises(UsageError, match="--overwrite"):
        write_pi_package(exported[0], made.folder, wheels=[wheels])
    before = content(tmp_path)
    made_again = write_pi_package(exported[0], made.folder, precision="int8", wheels=[wheels], overwrite=True)
    assert [entry.precision for entry in made_again.files] == ["int8"]
    assert content(tmp_path) != before
    (made.folder / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"notes\.txt"):
        write_pi_package(exported[0], made.folder, wheels=[wheels], overwrite=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"package\.json"):
        write_pi_package(exported[0], tmp_path / "other", wheels=[wheels], overwrite=True)


def test_a_failure_leaves_what_stood_there(exported, wheels, made, tmp_path, monkeypatch):
    before = content(tmp_path)
    for step in ("write_folder_atomically", "tar_gz_bytes"):
        with monkeypatch.context() as patched:
            patched.setattr(
                f"mbn_deploy.packages.package.{step}", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "full"))
            )
            with pytest.raises(InputError, match="no space left"):
                write_pi_package(exported[0], made.folder, wheels=[wheels], overwrite=True)
        assert content(tmp_path) == before
        assert not list(tmp_path.glob(".*"))


def test_a_damaged_bundle_is_refused_before_wheels_are_fetched(bundle, tmp_path):
    file = next(bundle.glob("*_int8.tflite"))
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(InputError, match=file.name):
        write_pi_package(bundle, tmp_path / "board", wheels=[tmp_path / "nothing"])
    assert not (tmp_path / "board").exists()


def test_hostile_names_stay_text(bundle, wheels, tmp_path):
    """Names out of a manifest and labels reach no shell script, unit or JSON as anything but text."""
    evil = "$(reboot)`;'\"\u001b[2J.tflite"
    manifest = json.loads((bundle / "manifest.json").read_text())
    for entry in manifest["files"]:
        if entry["path"].endswith("_int8.tflite"):
            (bundle / entry["path"]).rename(bundle / evil)
            entry["path"] = evil
    manifest["model"], manifest["golden"], manifest["golden_sha256"] = "a\n$(reboot)", None, None
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    made = write_pi_package(bundle, tmp_path / "a board $(reboot)", precision="int8", wheels=[wheels])
    shipped = ("install.sh", "classify.py", "mbn-deploy.service")
    for name in shipped:
        assert (made.folder / name).read_bytes() == SCRIPT.with_name(name).read_bytes()
    for name in ("settings", "requirements.txt"):
        assert "reboot" not in (made.folder / name).read_text()
    readme = (made.folder / "README.md").read_text()
    assert "\x1b" not in readme
    assert "tar -xzf 'a board $(reboot).tar.gz'" in readme


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--precision", "int4"], 2, "precision"),
        (["--arch", "x86_64"], 2, "architecture"),
        (["--python", "2.7"], 2, "Python version"),
        (["--wheels", "/nonexistent"], 3, "pip finds no wheels"),
    ],
)
def test_wrong_use_has_its_exit_code(exported, tmp_path, options, code, words):
    result = run("bundle", "pi", exported[0], "-o", tmp_path / "board", *options)
    assert result.exit_code == code
    assert words in result.stderr
    assert not list(tmp_path.iterdir())


def test_the_command_says_what_it_made(exported, wheels, tmp_path):
    words = run("bundle", "pi", exported[0], "-o", tmp_path / "board", "--wheels", wheels)
    assert words.exit_code == 0, words.stderr
    assert "board.tar.gz" in words.stdout
    assert max(map(len, words.stdout.splitlines()[2:])) <= 120
    result = run("bundle", "pi", exported[0], "-o", tmp_path / "board", "--wheels", wheels, "--overwrite", "--json")
    facts = json.loads(result.stdout)
    assert facts["archive_bytes"] == (tmp_path / "board.tar.gz").stat().st_size
    assert (facts["architecture"], facts["backend"], facts["python"]) == ("aarch64", "litert", "3.11")
    assert facts["rpicam"].endswith("_int8.tflite")


# --- the script, on this machine, which is no board ---


@pytest.fixture
def unpacked(made, tmp_path):
    return shutil.move(made.folder, tmp_path / "opt board")


def installer(folder, *options, **environment):
    return subprocess.run(
        [folder / "install.sh", *options], capture_output=True, text=True, check=False, env=os.environ | environment
    )


def fake_python(folder, version, bits, machine, *, modules=True):
    """A program that answers the script's questions as a Python of another machine would."""
    script = folder / "python"
    has = "exit 0" if modules else "case $2 in *import\\ venv*|*numpy*) exit 1 ;; esac; exit 0"
    script.write_text(
        f'#!/bin/sh\ncase $2 in *sizeof*|*calcsize*) echo "{version} {bits} {machine}"; exit ;; esac\n{has}\n'
    )
    script.chmod(0o755)
    return str(script)


@pytest.mark.parametrize(
    ("python", "code", "words"),
    [
        (("3.11", 64, "x86_64"), 3, "for ARM boards (aarch64); this machine is x86_64"),
        (("3.13", 64, "aarch64"), 3, "bundle pi ... --python 3.13"),
        (("3.11", 32, "aarch64"), 3, "bundle pi ... --arch armv7l"),
        (("3.11", 32, "armv6l"), 3, "ARMv6"),
    ],
)
def test_the_installer_says_what_is_wrong(unpacked, tmp_path, python, code, words):
    done = installer(unpacked, PYTHON=fake_python(tmp_path, *python))
    assert done.returncode == code
    assert words in done.stderr
    assert not (unpacked / "venv").exists()


def test_the_installer_names_the_package_that_is_missing(unpacked, tmp_path):
    done = installer(unpacked, PYTHON=fake_python(tmp_path, "3.11", 64, "aarch64", modules=False))
    assert (done.returncode, "sudo apt install python3-venv" in done.stderr) == (4, True)
    done = installer(unpacked, PYTHON=str(tmp_path / "no such python"))
    assert done.returncode == 3
    assert "does not run" in done.stderr


def test_the_installer_never_removes_a_folder_that_it_did_not_make(unpacked, tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.txt").write_text("mine")
    python = fake_python(tmp_path, "3.11", 64, "aarch64")
    done = installer(unpacked, PYTHON=python, VENV=str(tmp_path / "precious"))
    assert done.returncode == 2
    assert (tmp_path / "precious" / "thesis.txt").read_text() == "mine"
    assert installer(unpacked, "--purge").returncode == 2


def test_the_unit_is_one_that_systemd_takes(made, tmp_path):
    done = installer(made.folder, "--print-unit")
    assert done.returncode == 0, done.stderr
    assert "@FOLDER@" not in done.stdout
    assert f"ExecStart={made.folder}/venv/bin/mbn-deploy serve" in done.stdout
    program = made.folder / "venv" / "bin" / "mbn-deploy"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    unit = tmp_path / "mbn-deploy.service"
    unit.write_text(done.stdout)
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    checked = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    assert "mbn-deploy.service" not in checked.stderr


def test_the_unit_limits_memory_threads_and_addresses(made):
    unit = installer(made.folder, "--print-unit").stdout.splitlines()
    limits = dict(line.split("=", 1) for line in unit if line.startswith(("MemoryMax", "TasksMax", "IPAddress")))
    assert limits["IPAddressDeny"] == "any"
    assert int(limits["MemoryMax"].removesuffix("%")) < 100
    assert int(limits["TasksMax"]) < 1000
    networks = [ipaddress.ip_network(each) for each in limits["IPAddressAllow"].split() if each[0].isdigit()]
    assert any(ipaddress.ip_address("192.168.1.20") in network for network in networks)
    assert all(network.is_private for network in networks)
    readme = (made.folder / "README.md").read_text(encoding="utf-8")
    assert all(name in readme for name in ("MemoryMax", "TasksMax", "IPAddressAllow", "systemctl edit"))


@pytest.mark.parametrize("target", ["whole path", "relative", "link to a link", "link to the folder"])
def test_the_installer_works_through_a_symbolic_link(made, tmp_path, target):
    elsewhere = tmp_path / "bin"
    elsewhere.mkdir()
    link = elsewhere / "setup"
    if target == "whole path":
        link.symlink_to(made.folder / "install.sh")
    elif target == "relative":
        link.symlink_to(os.path.relpath(made.folder / "install.sh", elsewhere))
    elif target == "link to a link":
        (tmp_path / "other").symlink_to(made.folder / "install.sh")
        link.symlink_to("../other")
    else:
        (tmp_path / "current").symlink_to(made.folder)
        link = tmp_path / "current" / "install.sh"
    folder = tmp_path / "current" if target == "link to the folder" else made.folder
    for command in ([link], ["sh", link]):
        done = subprocess.run([*command, "--print-unit"], capture_output=True, text=True, check=False, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert f"WorkingDirectory={folder}\n" in done.stdout


def test_the_unit_is_refused_for_a_path_that_systemd_would_misread(unpacked):
    done = installer(unpacked, "--print-unit")
    assert done.returncode == 2
    assert "systemd needs a path" in done.stderr


def test_every_python_of_the_table_is_one_that_the_project_supports():
    from packaging.specifiers import SpecifierSet

    assert all(SpecifierSet(own_metadata()["Requires-Python"]).contains(f"{python}.1") for python in SYSTEMS)


def test_what_stopped_pip_itself_is_said():
    reason = "OSError: [Errno 28] No space left on device"
    assert wheelhouse.pip_errors(f"Looking\nERROR: Exception:\nTraceback (most recent call):\n  x\n{reason}\n") == [
        reason
    ]
