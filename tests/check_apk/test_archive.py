"""The reader of zip archives: reads what zipfile writes, and refuses, in bounded memory, what contradicts itself."""

import io
import struct
import subprocess
import sys
import tracemalloc
import zipfile
import zlib

import apk_files as made
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mbn_deploy.check_apk import archive as apk_zip
from mbn_deploy.check_apk.archive import ZipArchive, open_zip
from mbn_deploy.check_apk.check import check_apk
from mbn_deploy.check_apk.directory import Window
from mbn_deploy.errors import InputError, MbnError

FILES = {"a/b.txt": b"abc" * 1000, "empty": b"", "ünï/猫.bin": bytes(range(256)) * 300, "folder/": b""}


def opened(data):
    return ZipArchive(Window(io.BytesIO(data), 0, len(data), "x.apk"))


def contents(data):
    archive = opened(data)
    return {name: archive.read(entry, 2**20) for name, entry in archive.entries.items()}


def refused(data):
    """The words with which an archive is refused, at the latest when its files are read."""
    with pytest.raises(InputError) as caught:
        contents(data)
    assert str(caught.value).startswith("x.apk: ")
    return str(caught.value)


class Stream(io.RawIOBase):
    """A file that cannot be sought: zipfile then writes descriptors behind the data."""

    def __init__(self):
        self.data = bytearray()

    def writable(self):
        return True

    def write(self, data):
        self.data += data
        return len(data)


@pytest.mark.parametrize("packed", [(), tuple(FILES)])
@pytest.mark.parametrize("alignment", [0, 4, 16384])
def test_what_zipfile_writes(packed, alignment):
    data = made.archive(FILES, packed=packed, alignment=alignment)
    assert contents(data) == FILES
    with zipfile.ZipFile(io.BytesIO(data)) as theirs:
        assert theirs.testzip() is None
    archive = opened(data)
    for name, entry in archive.entries.items():
        if entry.stored:
            assert data[entry.offset : entry.offset + entry.size] == FILES[name]
            assert archive.alignment(entry) >= (alignment or 1)


@pytest.mark.parametrize("method", [made.STORED, made.DEFLATED])
def test_sizes_behind_the_data(method):
    stream = Stream()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, data in FILES.items():
            archive.writestr(name, data)
    data = bytes(stream.data)
    assert contents(data) == FILES
    at = data.index(b"PK\x07\x08") + 4
    assert "behind its data says another" in refused(data[:at] + b"\xff" + data[at + 1 :])


def test_zip64_fields_and_records():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive, archive.open("big", "w", force_zip64=True) as file:
        file.write(b"123")
    assert contents(buffer.getvalue()) == {"big": b"123"}
    data = bytearray(made.archive({"a": b"1", "b": b"22"}))
    end = data.index(b"PK\x05\x06")
    _, _, _, _, count, size, begin, _ = struct.unpack_from("<4s4H2IH", data, end)
    record = struct.pack("<4sQ2H2I4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, size, begin)
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, end, 1)
    last = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    wide = bytes(data[:end]) + record + locator + last
    assert contents(wide) == {"a": b"1", "b": b"22"}
    assert "zip64" in refused(bytes(data[:end]) + last)


def checked_in_little_memory(path):
    """What `check_apk` says, in a process of its own whose memory is limited."""
    program = (
        "import resource, sys\nresource.setrlimit(resource.RLIMIT_DATA, (2**28, 2**28))\n"
        "from mbn_deploy.check_apk.check import check_apk\nreport = check_apk(sys.argv[1])\n"
        "print(report.entries, *(model.size for model in report.models))"
    )
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [int(word) for word in done.stdout.split()]


def test_a_hundred_thousand_files(tmp_path):
    """More than 16 bits can count, so that the zip64 records are needed, too."""
    path = tmp_path / "x.apk"
    path.write_bytes(made.many(100_000))
    assert checked_in_little_memory(path) == [100_000]


def test_parts_are_read_without_the_rest():
    text = np.random.default_rng(1).bytes(5000) * 200
    data = made.archive({"s": text, "d": text}, packed=["d"])
    archive = opened(data)
    for entry in archive.entries.values():
        for start, length in ((0, 16), (0, 5000), (999_990, 100), (500_000, 7), (2_000_000, 5)):
            assert archive.part(entry, start, length) == text[start : start + length]


def patched(data, at, form, value):
    changed = bytearray(data)
    struct.pack_into(form, changed, at, value)
    return bytes(changed)


def central(data, number=0):
    """Where the directory's record of a file begins."""
    at = -1
    for _ in range(number + 1):
        at = data.index(b"PK\x01\x02", at + 1)
    return at


TWO = made.archive({"one": b"1" * 50, "two": b"2" * 60}, alignment=0)
CONTRADICTIONS = {
    "encrypted": (patched(TWO, central(TWO) + 8, "<H", 1), "is encrypted"),
    "method": (patched(TWO, central(TWO) + 10, "<H", 14), "method 14"),
    "method here only": (patched(TWO, 8, "<H", 8), "another compression"),
    "checksum": (patched(TWO, 14, "<I", 5), "another size or checksum"),
    "stored sizes": (patched(TWO, central(TWO) + 24, "<I", 49), "is stored, but"),
    "local sizes": (patched(TWO, 22, "<I", 49), "another size or checksum"),
    "local name": (patched(TWO, 30, "<B", 64), "by its own header"),
    "header elsewhere": (patched(TWO, central(TWO) + 42, "<I", 1), "no file's header at byte 1"),
    "header behind": (patched(TWO, central(TWO) + 42, "<I", 10**6), "in or behind the directory"),
    "disk": (patched(TWO, central(TWO) + 34, "<H", 1), "another part"),
    "several parts": (patched(TWO, len(TWO) - 18, "<H", 1), "several parts"),
    "count": (patched(patched(TWO, len(TWO) - 14, "<H", 900), len(TWO) - 12, "<H", 900), "for 900 files"),
    "directory elsewhere": (patched(TWO, len(TWO) - 6, "<I", 10**6), "a directory of"),
    "appended": (TWO + b"x", "bytes lie behind the end"),
    "in front": (b"MZ" + bytes(10) + TWO, "its first bytes"),
    "empty": (b"PK\x05\x06" + bytes(18), "an empty zip archive"),
    "nothing": (b"", "no zip archive"),
    "text": (b"hello" * 1000, "no zip archive"),
    "data": (TWO.replace(b"1" * 50, b"1" * 49 + b"3"), "do not have the checksum"),
}


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_contradictions(case):
    data, words = CONTRADICTIONS[case]
    assert words in refused(data)


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/passwd", "a\\b", "a\0b", ""])
def test_names_that_lead_outside(name):
    raw, placeholder = name.encode(), "q" * len(name)
    data = made.archive({placeholder or "q": b"1"}, alignment=0)
    if name:
        data = data.replace(placeholder.encode(), raw)
    else:  # a name of no bytes, in both places
        data = patched(data.replace(b"q1PK", b"1PK", 1), 26, "<H", 0)
        at = central(data)
        data = patched(data[: at + 46] + data[at + 47 :], at + 28, "<H", 0)
        data = patched(patched(data, len(data) - 10, "<I", 46), len(data) - 6, "<I", at)
    assert "leads outside" in refused(data)


def test_names_that_are_no_utf8():
    assert "no UTF-8" in refused(TWO.replace(b"one", b"\xff\xfe\xfd"))


def test_two_files_of_one_name():
    assert "two files of this name" in refused(TWO.replace(b"two", b"one"))


def test_files_that_share_bytes():
    """As the bombs that have no archive in an archive: all entries quote one piece of data."""
    data = made.archive({"one": b"1" * 50, "two": b"1" * 50}, alignment=0)
    second = central(data, 1)
    data = patched(data.replace(b"two", b"one"), second + 42, "<I", 0)
    data = data[: second + 46] + b"two" + data[second + 49 :]
    assert "by its own header" in refused(data)
    inner = made.archive({"in": b"1" * 20}, alignment=0)
    outer = made.archive({"one": inner, "in": b"1" * 20}, alignment=0)
    data = patched(outer, central(outer, outer.count(b"PK\x01\x02") - 1) + 42, "<I", outer.index(inner))
    assert "overlaps with" in refused(data)


def test_sizes_that_deflate_cannot_reach():
    data = made.archive({"a": b"0" * 10**6}, packed=["a"], alignment=0)
    data = patched(patched(data, 22, "<I", 2**31), central(data) + 24, "<I", 2**31)
    assert "cannot unpack to 2147483648" in refused(data)


@pytest.mark.parametrize(("packed", "words"), [
    (zlib.compress(b"0" * 5000, wbits=-15)[:-2], "end too early"),
    (zlib.compress(b"0" * 5000, wbits=-15) + b"more", "behind the end"),
    (zlib.compress(b"0" * 4000, wbits=-15), "another size"),
    (zlib.compress(b"0" * 6000, wbits=-15), "another size"),
    (b"\xff" * 30, "damaged"),
])  # fmt: skip
def test_compressed_data_that_are_wrong(packed, words):
    sizes = struct.pack("<3I", zlib.crc32(b"0" * 5000), len(packed), 5000)
    local = struct.pack("<4s5H", b"PK\x03\x04", 20, 0, 8, 0, 33) + sizes + struct.pack("<2H", 1, 0) + b"a" + packed
    record = struct.pack("<4s6H", b"PK\x01\x02", 20, 20, 0, 8, 0, 33) + sizes + struct.pack("<5H2I", 1, *[0] * 6) + b"a"
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 1, 1, len(record), len(local), 0)
    assert words in refused(local + record + end)


def test_a_bomb_is_not_unpacked(tmp_path, monkeypatch):
    """42 kB stand for 40 MB; what is looked into of a file that is no model is its first bytes."""
    data = made.apk({"assets/b.bin": bytes(40 * 2**20)}, packed=["assets/b.bin"], alignment=0)
    assert len(data) < 64_000
    path = tmp_path / "b.apk"
    path.write_bytes(data)
    tracemalloc.start()
    check_apk(path)
    assert tracemalloc.get_traced_memory()[1] < 4 * 2**20
    tracemalloc.stop()
    monkeypatch.setattr(apk_zip, "INFLATED_LIMIT", 2**20)
    with open_zip(path) as archive, pytest.raises(InputError, match="zip bomb"):
        archive.read(archive.entries["assets/b.bin"], 2**30)


def test_a_model_that_unpacks_to_gigabytes_needs_little_memory(tmp_path):
    path = tmp_path / "b.apk"
    with zipfile.ZipFile(path, "w", made.DEFLATED) as archive:
        archive.writestr("AndroidManifest.xml", made.BINARY_MANIFEST)
        with archive.open("assets/m.tflite", "w") as file:
            for _ in range(300):
                file.write(bytes(2**20))
    assert checked_in_little_memory(path) == [2, 300 * 2**20]


REAL = made.apk(
    {"assets/a.bin": bytes(range(256)) * 4, "lib/arm64-v8a/liba.so": made.elf(), "assets/manifest.json": b"{}"},
    packed=["assets/a.bin"], alignment=4,
)  # fmt: skip


def only_our_errors(path, data):
    path.write_bytes(data)
    try:
        check_apk(path)
    except MbnError as error:
        assert error.exit_code == 3  # noqa: PT017


def test_cut_off_anywhere(tmp_path):
    for at in range(len(REAL)):
        path = tmp_path / "x.apk"
        path.write_bytes(REAL[:at])
        with pytest.raises(InputError):
            check_apk(path)


@settings(max_examples=500, deadline=None)
@given(st.data())
def test_bytes_that_are_changed_anywhere(tmp_path_factory, data):
    changed = bytearray(REAL)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(changed) - 1))
        width = data.draw(st.sampled_from([1, 2, 4]))
        value = data.draw(st.sampled_from([0, 1, 0x7F, 0xFF, 0xFFFF, 0xFFFFFFFF, len(REAL)]))
        changed[at : at + width] = (value & (256**width - 1)).to_bytes(width, "little")
    only_our_errors(tmp_path_factory.getbasetemp() / "changed.apk", bytes(changed))


def test_pieces_that_are_moved_or_left_out(tmp_path):
    rng = np.random.default_rng(7)
    for _ in range(300):
        first, second = sorted(rng.integers(len(REAL), size=2).tolist())
        for data in (REAL[:first] + REAL[second:], REAL[:second] + REAL[first:]):
            only_our_errors(tmp_path / "x.apk", data)


def test_what_is_read_is_what_others_read():
    """Archives that are changed and still accepted hold for zipfile, where it reads them, the same files."""
    stream = Stream()
    with zipfile.ZipFile(stream, "w", made.DEFLATED) as archive:
        for name, data in FILES.items():
            archive.writestr(name, data[:200])
    seeds, accepted = [REAL, TWO, bytes(stream.data), made.many(3)], 0
    rng = np.random.default_rng(3)
    for _ in range(4000):
        changed = bytearray(seeds[rng.integers(len(seeds))])
        at = int(rng.integers(len(changed)))
        changed[at] = int(rng.choice([0, 1, 0x7F, 0xFF, changed[at] ^ 1]))
        try:
            ours = contents(bytes(changed))
        except InputError:
            continue
        accepted += 1
        try:
            with zipfile.ZipFile(io.BytesIO(changed)) as archive:
                theirs = {name: archive.read(name) for name in archive.namelist()}
        except (zipfile.BadZipFile, NotImplementedError):
            continue
        assert ours == theirs
    assert accepted > 100
