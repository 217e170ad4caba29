"""Temporary files and folders of processes that were killed: the next run removes them, and none that is in use."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from mbn_deploy.bundle import atomic_folder
from mbn_deploy.bundle.write import check_target, write_bundle
from mbn_deploy.errors import InputError, UsageError
from mbn_deploy.packages.package import archive_of, write_package
from mbn_deploy.runtime.system import temporary
from mbn_deploy.runtime.system.temporary import locked, remove_stale, replace_file, replacing, scratch

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no flock there")

HOLDER = """
import sys, time
from pathlib import Path
from mbn_deploy.runtime.system.temporary import locked
with locked(lambda: Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def made(path):
    path.mkdir()
    (path / "file").write_bytes(b"x")
    return path


def made_file(path):
    path.write_bytes(b"half of what was to be wr")
    return path


def test_only_what_nobody_holds_is_removed(tmp_path):
    taken, free, other = made(tmp_path / "t-held"), made(tmp_path / "t-free"), made(tmp_path / "other")
    file = made_file(tmp_path / "t-file")
    with locked(lambda: taken), locked(lambda: file):
        remove_stale(tmp_path, "t-*")
        assert sorted(tmp_path.iterdir()) == sorted([taken, file, other])
    assert not free.exists()
    remove_stale(tmp_path, "t-*")
    assert list(tmp_path.iterdir()) == [other]


def test_a_killed_process_holds_nothing(tmp_path):
    folder = made(tmp_path / "t-1")
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, folder], stdout=subprocess.PIPE)
    assert holder.stdout.readline() == b"held\n"
    remove_stale(tmp_path, "t-*")
    assert folder.exists()
    holder.kill()
    holder.communicate()
    remove_stale(tmp_path, "t-*")
    assert not folder.exists()


def test_links_pipes_and_what_they_lead_to_are_left_alone(tmp_path):
    target = made(tmp_path / "precious")
    (tmp_path / "t-link").symlink_to(target)
    (tmp_path / "t-dangling").symlink_to(tmp_path / "nothing")
    os.mkfifo(tmp_path / "t-pipe")
    before = sorted(tmp_path.iterdir())
    remove_stale(tmp_path, "t-*")
    assert sorted(tmp_path.iterdir()) == before
    assert (target / "file").exists()


def test_what_another_process_takes_before_the_lock_is_made_again(tmp_path):
    names = iter(["a", "b", "c"])

    def make():
        path = made(tmp_path / next(names))
        if path.name != "c":
            temporary.remove(path)
        return path

    with locked(make) as folder:
        assert folder.name == "c"


def test_a_scratch_folder_goes_and_takes_those_of_killed_runs_along(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    left = made(tmp_path / "mbn-deploy-test-0123")
    with scratch("test") as folder, scratch("test") as second:
        (folder / "file").write_bytes(b"x")
        assert sorted(tmp_path.iterdir()) == sorted([folder, second])
    assert not left.exists()
    assert list(tmp_path.iterdir()) == []


def test_no_place_for_a_scratch_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(InputError, match="temporary folder"), scratch("test"):
        pass


def test_a_file_is_replaced_or_stands(tmp_path):
    path = made_file(tmp_path / "a[b].json")
    left, foreign = made_file(tmp_path / ".a[b].json.01234567.tmp"), made_file(tmp_path / ".ab.json.01234567.tmp")
    replace_file(path, b"new")
    assert path.read_bytes() == b"new"
    assert not left.exists()
    assert foreign.exists()

    def interrupted():
        with replacing(path) as new:
            new.write_bytes(b"newer")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_bytes() == b"new"
    assert sorted(tmp_path.iterdir()) == sorted([path, foreign])


def test_a_file_that_cannot_be_written(tmp_path):
    with pytest.raises(InputError, match=r"a\.json"):
        replace_file(tmp_path / "missing" / "a.json", b"x")


def test_writing_a_bundle_removes_what_a_killed_run_left(tmp_path):
    name = "d[i]st"
    left, foreign = made(tmp_path / f".{name}.0123abcd.tmp"), made(tmp_path / ".dist.0123abcd.tmp")
    write_bundle(tmp_path / name, {"manifest.json": b"{}"})
    assert not left.exists()
    assert foreign.exists()


def test_a_bundle_whose_manifest_was_being_rewritten_can_be_replaced(tmp_path):
    bundle = tmp_path / "dist"
    write_bundle(bundle, {"manifest.json": b"{}"})
    made_file(bundle / ".manifest.json.0123abcd.tmp")
    write_bundle(bundle, {"manifest.json": b"[]"}, overwrite=True)
    assert [path.name for path in bundle.iterdir()] == ["manifest.json"]


def test_writing_a_package_removes_what_a_killed_run_left(tmp_path):
    package = tmp_path / "package"
    left = made_file(tmp_path / ".package.tar.gz.0123abcd.tmp"), made(tmp_path / ".package.0123abcd.tmp")
    write_package(package, {"a": b"x"}, {})
    assert not any(path.exists() for path in left)
    assert sorted(tmp_path.iterdir()) == sorted([package, archive_of(package)])


def test_a_folder_that_a_killed_run_set_aside_is_put_back(tmp_path, monkeypatch):
    """Where folders cannot be exchanged, a kill may come while the old one stands under no name of its own."""
    bundle, rename = tmp_path / "dist", Path.rename
    write_bundle(bundle, {"manifest.json": b"old"})
    monkeypatch.setattr(atomic_folder, "exchange_folders", lambda *_: False)

    dead = []

    class Killed(BaseException):
        """Nothing is done after it: no rename, and `remove` does nothing."""

    def killed(self, target):
        if dead or target == bundle:
            dead.append(self)
            raise Killed
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", killed)
    monkeypatch.setattr(atomic_folder, "remove", lambda _: None)
    with pytest.raises(Killed):
        write_bundle(bundle, {"manifest.json": b"new"}, overwrite=True)
    monkeypatch.undo()
    assert not bundle.exists()
    with pytest.raises(UsageError, match="--overwrite"):
        check_target(bundle, overwrite=False)
    assert (bundle / "manifest.json").read_bytes() == b"old"
    write_bundle(bundle, {"manifest.json": b"new"}, overwrite=True)
    assert list(tmp_path.iterdir()) == [bundle]
    assert (bundle / "manifest.json").read_bytes() == b"new"
