"""The reader of Android archives: damage and bombs are an `InputError` in bounded memory."""

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
from zip_offsets import data_offset

from mbn_deploy.check_apk import archive as reader
from mbn_deploy.check_apk.archive import ZipArchive, is_stored, open_zip
from mbn_deploy.check_apk.check import check_apk
from mbn_deploy.errors import InputError, MbnError

FILES = {"a/b.txt": b"abc" * 1000, "empty": b"", "ünï/猫.bin": bytes(range(256)) * 300, "folder/": b""}


def opened(data):
    return ZipArchive(io.BytesIO(data), "x.apk")


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
def test_contents_and_alignment(packed, alignment):
    data = made.archive(FILES, packed=packed, alignment=alignment)
    assert contents(data) == FILES
    archive = opened(data)
    for entry in archive.entries.values():
        offset = data_offset(data, entry)
        aligned = [power for power in (2**n for n in range(15)) if offset % power == 0]
        assert archive.alignment(entry) == max(aligned)
        assert max(aligned) >= (alignment if is_stored(entry) else 1)


@pytest.mark.parametrize("method", [made.STORED, made.DEFLATED])
def test_sizes_behind_the_data(method):
    stream = Stream()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, data in FILES.items():
            archive.writestr(name, data)
    assert contents(bytes(stream.data)) == FILES


def test_zip64():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive, archive.open("big", "w", force_zip64=True) as file:
        file.write(b"123")
    assert contents(buffer.getvalue()) == {"big": b"123"}


def test_names_are_utf8_as_android_reads_them():
    """Android's own tools do not set the flag that says so."""
    data = made.archive(FILES, alignment=0)
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = data.index(signature, data.index("ünï".encode()) - 50 if signature == b"PK\x03\x04" else central(data, 2))
        data = patched(data, at + flags, "<H", 0)
    assert contents(data) == FILES
    assert "damaged" in refused(data.replace("ünï".encode(), b"\xff" * 5))


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


def test_a_directory_that_is_too_large(monkeypatch):
    monkeypatch.setattr(reader, "DIRECTORY_LIMIT", 10_000)
    assert len(contents(made.many(100))) == 100
    assert "10000" in refused(made.many(300))


def test_parts_are_read_without_the_rest():
    text = np.random.default_rng(1).bytes(5000) * 200
    archive = opened(made.archive({"s": text, "d": text}, packed=["d"]))
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
DAMAGES = {
    "encrypted": (patched(TWO, central(TWO) + 8, "<H", 1), "encrypted"),
    "method": (patched(TWO, central(TWO) + 10, "<H", 14), "method 14"),
    "stored sizes": (patched(TWO, central(TWO) + 24, "<I", 49), "'one': damaged"),
    "local name": (patched(TWO, 30, "<B", 64), "'one': damaged"),
    "header elsewhere": (patched(TWO, central(TWO) + 42, "<I", 1), "'one': damaged"),
    "header behind": (patched(TWO, central(TWO) + 42, "<I", 10**6), "'one': damaged"),
    "directory elsewhere": (patched(TWO, len(TWO) - 6, "<I", 10**6), "damaged"),
    "count": (patched(TWO, len(TWO) - 10, "<I", 900), "damaged"),
    "in front": (b"MZ" + bytes(10) + TWO, "not a zip archive"),
    "empty": (b"PK\x05\x06" + bytes(18), "empty"),
    "nothing": (b"", "not a zip archive"),
    "text": (b"hello" * 1000, "not a zip archive"),
    "data": (TWO.replace(b"1" * 50, b"1" * 49 + b"3"), "'one': damaged"),
    "two of one name": (TWO.replace(b"two", b"one"), "same name"),
}  # fmt: skip


@pytest.mark.parametrize("case", DAMAGES)
def test_damage(case):
    data, words = DAMAGES[case]
    assert words in refused(data)


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/passwd", "a\\b", "a\0b"])
def test_names_that_lead_outside(name):
    placeholder = "q" * len(name)
    data = made.archive({placeholder: b"1"}, alignment=0).replace(placeholder.encode(), name.encode())
    assert "leads outside" in refused(data)


@pytest.mark.parametrize(
    "packed", [zlib.compress(b"0" * 5000, wbits=-15)[:-2], zlib.compress(b"0" * 4000), b"\xff" * 30]
)
def test_compressed_data_that_are_wrong(packed):
    sizes = struct.pack("<3I", zlib.crc32(b"0" * 5000), len(packed), 5000)
    assert "'a': damaged" in refused(one_file(sizes, packed))


def test_a_stated_size_that_the_data_do_not_have():
    packed = zlib.compress(b"0" * 4000, wbits=-15)
    sizes = struct.pack("<3I", zlib.crc32(b"0" * 4000), len(packed), 5000)
    assert "'a': damaged" in refused(one_file(sizes, packed))


def one_file(sizes, packed):
    """An archive of one deflated file `a`, whatever checksum and sizes are stated."""
    local = struct.pack("<4s5H", b"PK\x03\x04", 20, 0, 8, 0, 33) + sizes + struct.pack("<2H", 1, 0) + b"a" + packed
    record = struct.pack("<4s6H", b"PK\x01\x02", 20, 20, 0, 8, 0, 33) + sizes + struct.pack("<5H2I", 1, *[0] * 6) + b"a"
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 1, 1, len(record), len(local), 0)
    return local + record + end


def test_a_bomb_is_not_unpacked(tmp_path, monkeypatch):
    """42 kB stand for 40 MB; of a file that is not a model only the first bytes are read."""
    data = made.apk({"assets/b.bin": bytes(40 * 2**20)}, packed=["assets/b.bin"], alignment=0)
    assert len(data) < 64_000
    path = tmp_path / "b.apk"
    path.write_bytes(data)
    tracemalloc.start()
    check_apk(path)
    assert tracemalloc.get_traced_memory()[1] < 4 * 2**20
    tracemalloc.stop()
    monkeypatch.setattr(reader, "UNPACKED_LIMIT", 2**20)
    with open_zip(path) as archive, pytest.raises(InputError, match="zip bomb"):
        archive.read(archive.entries["assets/b.bin"], 2**30)


def test_all_that_is_read_counts(monkeypatch):
    """As with bombs that are not archives in archives: many entries point to the same compressed bytes."""
    monkeypatch.setattr(reader, "UNPACKED_LIMIT", 2**20)
    archive = opened(made.archive({"kernel": bytes(2**16)}, packed=["kernel"], alignment=0))

    def read_often():
        for _ in range(20):
            archive.read(archive.entries["kernel"], 2**20)

    with pytest.raises(InputError, match="zip bomb"):
        read_often()


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


def test_every_byte_of_the_records_changed(tmp_path):
    """Small archives with descriptors, zip64 and plain records; each byte becomes one of five others."""
    stream = Stream()
    with zipfile.ZipFile(stream, "w", made.DEFLATED) as archive:
        for name, data in FILES.items():
            archive.writestr(name, data[:200])
    seeds = [REAL, TWO, bytes(stream.data), made.many(3)]
    rng = np.random.default_rng(3)
    for _ in range(4000):
        changed = bytearray(seeds[rng.integers(len(seeds))])
        at = int(rng.integers(len(changed)))
        changed[at] = int(rng.choice([0, 1, 0x7F, 0xFF, changed[at] ^ 1]))
        try:
            contents(bytes(changed))
        except InputError as error:
            assert str(error).startswith("x.apk: ")  # noqa: PT017
