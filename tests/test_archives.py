"""Zip and tar archives that depend on nothing but their contents."""

import io
import os
import tarfile
import time
import zipfile

import pytest
from zip_offsets import data_offset

from mbn_deploy.archives import ALIGNMENT, FILE_MODE, OWNER_ONLY, PAGE, tar_gz_bytes, zip_bytes

FILES = {"b": b"22" * 500, "ü/猫": b"1", "a": b""}


@pytest.mark.parametrize(
    "options", [{}, {"compress": True}, {"alignment": ALIGNMENT}, {"prefix": b"a model", "mode": OWNER_ONLY}]
)
def test_a_zip_archive_holds_the_files_in_their_order(options):
    data = zip_bytes(FILES, **options)
    assert data.startswith(options.get("prefix", b"PK"))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == FILES
        assert archive.namelist() == list(FILES)
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert {entry.external_attr >> 16 for entry in archive.infolist()} == {options.get("mode", FILE_MODE)}
        method = zipfile.ZIP_DEFLATED if options.get("compress") else zipfile.ZIP_STORED
        assert {entry.compress_type for entry in archive.infolist()} == {method}


def test_entries_begin_where_asked():
    data = zip_bytes({"ü/猫": b"1", "b": b"22", "page": b"333"}, alignment=ALIGNMENT, page_aligned={"page"})
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        starts = [data_offset(data, info) for info in archive.infolist()]
    assert [start % ALIGNMENT for start in starts] == [0, 0, 0]
    assert starts[2] % PAGE == 0


def test_a_tar_archive_has_one_top_folder_and_modes():
    data = tar_gz_bytes("top", FILES, executable={"a"})
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        members = {member.name: (member.mode, member.mtime, member.uid, member.uname) for member in archive}
        assert archive.extractfile("top/b").read() == FILES["b"]
    plain = (0o644, 315532800, 0, "")
    assert members == {"top/a": (0o755, *plain[1:]), "top/b": plain, "top/ü/猫": plain}
    assert list(members) == sorted(members)


def test_the_clock_and_the_user_do_not_matter(monkeypatch):
    before = zip_bytes(FILES), tar_gz_bytes("top", FILES)
    monkeypatch.setattr(time, "time", lambda: 2e9)
    monkeypatch.setattr(os, "getuid", lambda: 4321)
    assert (zip_bytes(FILES), tar_gz_bytes("top", FILES)) == before
