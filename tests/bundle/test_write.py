"""Bundles are written all or nothing, whatever goes wrong, and what stood there stays."""

import os
import re
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from mbn_deploy.bundle import atomic_folder
from mbn_deploy.bundle.write import check_target, write_bundle
from mbn_deploy.errors import InputError, UsageError

OLD = {
    "manifest.json": b'{"files": [{"path": "a.tflite"}], "labels": "labels.txt", "golden": null}',
    "a.tflite": b"old",
}
NEW = {"manifest.json": b'{"files": [{"path": "b.tflite"}]}', "b.tflite": b"new"}


def content(folder):
    """Everything below `folder`, hidden or not: a forgotten temporary file shows."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def inside(name, files):
    return {f"{name}/{key}": value for key, value in files.items()}


@pytest.fixture
def old(tmp_path):
    write_bundle(tmp_path / "dist", OLD)
    return tmp_path / "dist"


def test_a_new_bundle_with_its_parents(tmp_path):
    write_bundle(tmp_path / "a" / "b" / "dist", NEW)
    assert content(tmp_path) == inside("a/b/dist", NEW)
    assert (tmp_path / "a" / "b" / "dist").stat().st_mode & 0o777 == 0o777 & ~_umask()


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "dist").mkdir()
    write_bundle(tmp_path / "dist", NEW)
    assert content(tmp_path) == inside("dist", NEW)


def test_a_bundle_is_replaced_only_when_asked(old):
    with pytest.raises(UsageError, match="--overwrite"):
        write_bundle(old, NEW)
    assert content(old) == OLD
    write_bundle(old, NEW, overwrite=True)
    assert content(old.parent) == inside("dist", NEW)


def test_a_link_to_a_bundle_stays_a_link(old, tmp_path):
    (tmp_path / "link").symlink_to(old)
    write_bundle(tmp_path / "link", NEW, overwrite=True)
    assert (tmp_path / "link").is_symlink()
    assert content(old) == NEW


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_is_no_bundle_is_never_replaced(tmp_path, overwrite):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"miau")
    with pytest.raises(UsageError, match="photos"):
        write_bundle(tmp_path / "photos", NEW, overwrite=overwrite)
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(UsageError, match="file"):
        write_bundle(tmp_path / "file", NEW, overwrite=overwrite)
    with pytest.raises(InputError, match="file"):
        write_bundle(tmp_path / "file" / "dist", NEW, overwrite=overwrite)
    assert content(tmp_path) == {"photos/cat.jpg": b"miau", "file": b"x"}


def test_a_bundle_with_somebody_elses_files_is_not_replaced(old):
    (old / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"notes\.txt"):
        write_bundle(old, NEW, overwrite=True)
    (old / "notes.txt").unlink()
    (old / "report.html").write_text("ours")
    write_bundle(old, NEW, overwrite=True)


@pytest.mark.parametrize("manifest", [b"", b"[]", b"{}", b'{"files": 3}', b'{"files": ["a"]}', b"[" * 100_000])
def test_a_damaged_manifest_protects_the_other_files(old, manifest):
    (old / "manifest.json").write_bytes(manifest)
    with pytest.raises(UsageError, match=r"a\.tflite"):
        write_bundle(old, NEW, overwrite=True)


@pytest.mark.parametrize("name", ["../evil", "a/b", "", "..", "a\0b"])
def test_names_stay_inside_the_folder(tmp_path, name):
    with pytest.raises(InputError, match=re.escape(repr(name))):
        write_bundle(tmp_path / "dist", {name: b"x"})
    assert not any(tmp_path.iterdir())


STEPS = ("open", "fsync of a file", "fsync of a folder", "exchange")


def break_step(monkeypatch, step, failure):
    """Let one step of writing fail: these are the calls of the system that it is made of."""

    def fail(*_, **__):
        raise failure

    opened, fsync, is_folder = Path.open, os.fsync, lambda number: stat.S_ISDIR(os.fstat(number).st_mode)
    if step == "open":
        monkeypatch.setattr(
            Path, "open", lambda path, mode="r", *a, **k: fail() if mode == "xb" else opened(path, mode, *a, **k)
        )
    elif step.startswith("fsync"):
        monkeypatch.setattr(os, "fsync", lambda n: fail() if is_folder(n) == step.endswith("folder") else fsync(n))
    else:
        monkeypatch.setattr(atomic_folder, "exchange_folders", fail)
        monkeypatch.setattr(Path, "rename", fail)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(
    "failure", [KeyboardInterrupt(), OSError(28, "No space left on device"), RuntimeError()], ids=repr
)
def test_a_failure_at_any_step_leaves_what_stood_there(old, monkeypatch, step, failure):
    break_step(monkeypatch, step, failure)
    expected = InputError if isinstance(failure, OSError) else type(failure)
    with pytest.raises(expected):
        write_bundle(old, NEW, overwrite=True)
    with pytest.raises(expected):
        write_bundle(old.parent / "deep" / "new", NEW)
    monkeypatch.undo()
    assert content(old.parent) == inside("dist", OLD)
    assert not (old.parent / "deep").exists()


@pytest.fixture
def without_exchange(monkeypatch):
    monkeypatch.setattr(atomic_folder, "exchange_folders", lambda *_: False)


@pytest.mark.usefixtures("without_exchange")
def test_without_an_atomic_exchange_two_renames_do(old):
    write_bundle(old, NEW, overwrite=True)
    assert content(old.parent) == inside("dist", NEW)


@pytest.mark.usefixtures("without_exchange")
@pytest.mark.parametrize("failure", [OSError(5, "Input/output error"), KeyboardInterrupt()], ids=repr)
def test_without_an_atomic_exchange_a_failed_rename_is_taken_back(old, monkeypatch, failure):
    rename = Path.rename

    def second_fails(self, target):
        if self.suffix == ".tmp":
            raise failure
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", second_fails)
    with pytest.raises(InputError if isinstance(failure, OSError) else KeyboardInterrupt):
        write_bundle(old, NEW, overwrite=True)
    assert content(old.parent) == inside("dist", OLD)


@pytest.mark.usefixtures("without_exchange")
@pytest.mark.parametrize("suffix", [".old", ".tmp"])
def test_another_process_that_restores_the_old_bundle_in_between_loses_nothing(old, monkeypatch, suffix):
    """It comes right after the first rename (`.old`) or after the second (`.tmp`)."""
    rename = Path.rename

    def disturbed(self, target):
        moved = rename(self, target)
        if suffix in (self.suffix, target.suffix):
            monkeypatch.setattr(Path, "rename", rename)
            atomic_folder.restore_interrupted(old)
        return moved

    monkeypatch.setattr(Path, "rename", disturbed)
    if suffix == ".old":
        with pytest.raises(InputError, match=str(old)):
            write_bundle(old, NEW, overwrite=True)
    else:
        write_bundle(old, NEW, overwrite=True)
    assert content(old.parent) == inside("dist", OLD if suffix == ".old" else NEW)


@pytest.mark.parametrize("exchange", [True, False])
def test_ctrl_c_while_the_folders_are_swapped_leaves_a_whole_bundle(old, monkeypatch, exchange):
    swap = atomic_folder.exchange_folders

    def interrupted(*folders):
        swapped = exchange and swap(*folders)
        os.kill(os.getpid(), signal.SIGINT)
        return swapped

    monkeypatch.setattr(atomic_folder, "exchange_folders", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_bundle(old, NEW, overwrite=True)
    assert content(old.parent) == inside("dist", NEW if exchange else OLD)


def test_bundles_are_written_from_any_thread(tmp_path):
    thread = threading.Thread(target=write_bundle, args=(tmp_path / "dist", NEW))
    thread.start()
    thread.join()
    assert content(tmp_path) == inside("dist", NEW)


def mounted(folder, options):
    """A tiny file system of its own; skips where this user may not mount one."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("needs root and the right to mount a file system")


def test_a_full_disk(tmp_path):
    disk = tmp_path / "disk"
    mounted(disk, "size=256k")
    try:
        write_bundle(disk / "dist", OLD)
        noise = np.random.default_rng(0).bytes(400_000)
        with pytest.raises(InputError, match=r"0\.4 MB.*no space left"):
            write_bundle(disk / "dist", NEW | {"b.tflite": noise}, overwrite=True)
        with pytest.raises(InputError, match="no space left"):
            write_bundle(disk / "new" / "dist", NEW | {"b.tflite": noise})
        assert content(disk) == inside("dist", OLD)
        assert [p.name for p in disk.iterdir()] == ["dist"]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_read_only_disk(tmp_path):
    disk = tmp_path / "disk"
    mounted(disk, "size=256k")
    try:
        write_bundle(disk / "dist", OLD)
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        with pytest.raises(InputError, match="permission"):
            write_bundle(disk / "dist", NEW, overwrite=True)
        with pytest.raises(InputError, match="permission"):
            check_target(disk / "new", overwrite=False)
        assert content(disk) == inside("dist", OLD)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


FULL = """
import resource, sys
from pathlib import Path
from mbn_deploy.bundle.write import write_bundle
from mbn_deploy.errors import InputError
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_bundle(Path(sys.argv[1]), {"manifest.json": b"{}", "b.tflite": bytes(5000)}, overwrite=True)
except InputError as error:
    print(error)
"""


def test_a_file_size_limit(old):
    """The same as a full disk, for users who may not mount one."""
    done = subprocess.run([sys.executable, "-c", FULL, str(old)], capture_output=True, text=True, check=True)
    assert "no space left" in done.stdout
    assert content(old.parent) == inside("dist", OLD)


FORBIDDEN = """
import os, sys
from pathlib import Path
from mbn_deploy.bundle.write import write_bundle
from mbn_deploy.errors import InputError
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
for target in sys.argv[1:]:
    try:
        write_bundle(Path(target), {"manifest.json": b"{}"}, overwrite=True)
    except InputError as error:
        print(error)
"""


def test_no_permission(tmp_path):
    import tempfile

    # Not below tmp_path: its parents are closed to other users, and root ignores modes.
    with tempfile.TemporaryDirectory() as name:
        closed = Path(name) / "closed"
        write_bundle(closed / "dist", OLD)
        Path(name).chmod(0o755)
        closed.chmod(0o555)
        try:
            targets = [str(closed / "dist"), str(closed / "new")]
            done = subprocess.run(
                [sys.executable, "-c", FORBIDDEN, *targets], capture_output=True, text=True, check=False
            )
        finally:
            closed.chmod(0o755)
        assert done.stdout.count("no permission to write in") == 2, done.stderr
        assert content(closed) == inside("dist", OLD)
