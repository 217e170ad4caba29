"""Native libraries in Android archives: processors, and pages of 16 KB."""

import importlib.util
import subprocess
from functools import partial
from pathlib import Path

import apk_files as made
import pytest
from apk_files import the_problem

from mbn_deploy.check_apk.elf import read_library
from mbn_deploy.runtime.formats.flatbuffer import DamagedError


@pytest.fixture
def checked(tmp_path):
    return partial(made.check, tmp_path)


@pytest.mark.parametrize(("library", "words"), [
    (made.elf(4096), "pages of 4 KB"),
    (made.elf(16384, apart=4096), "pages of 4 KB"),  # only the stated alignment was raised
    (made.elf(machine=62), "another processor than arm64-v8a"),
    (made.elf(bits=32, machine=40), "another processor than arm64-v8a (32 bits"),
    (made.elf(loads=0), "no LOAD segments"),
    (made.elf(kind=2), "ELF file of type 2"),
    (made.elf(12288), "aligned to 12288"),
    (made.elf()[:200], "cut off"),
    (b"hello", "ELF file"),
])  # fmt: skip
def test_libraries_that_do_not_load(checked, library, words):
    assert words in the_problem(checked({"lib/arm64-v8a/libx.so": library}))


def test_32_bit_libraries_go_on_with_small_pages(checked):
    small = made.elf(4096, bits=32, machine=40)
    report = checked({"lib/armeabi-v7a/libx.so": small, "lib/arm64-v8a/libx.so": made.elf()}, alignment=16384)
    assert report.passed
    assert {library.abi: library.page_size for library in report.libraries} == {"armeabi-v7a": 4096, "arm64-v8a": 16384}
    big = read_library(lambda start, length: made.elf(65536, order=">")[start : start + length])
    assert big.page_size == 65536


def test_where_libraries_lie_in_an_apk(checked):
    name = "lib/arm64-v8a/liba.so"
    assert "multiple of only 8192 bytes" in the_problem(checked({name: made.elf()}, alignment=4096))
    packed = checked({name: made.elf()}, packed=[name])
    assert packed.passed
    assert "1 compressed native libraries" in " ".join(finding.text for finding in packed.findings)


def test_abis(checked):
    report = checked({
        "lib/x86/a.so": made.elf(4096, bits=32, machine=3), "lib/x86/b.so": made.elf(4096, bits=32, machine=3),
        "lib/x86_64/a.so": made.elf(machine=62), "lib/mips/a.so": made.elf(),
    })  # fmt: skip
    assert report.passed
    assert report.abis == ("mips", "x86", "x86_64")
    said = {(finding.entry, finding.text) for finding in report.findings}
    assert any(entry == "" and "none for arm64-v8a" in text for entry, text in said)
    assert any(entry == "lib/mips/a.so" and "'mips'" in text for entry, text in said)
    assert any(entry == "b.so" and "not for x86_64" in text for entry, text in said)


def test_real_libraries():
    """Against readelf's own words, where it is here; every extension of numpy on this machine."""
    root = Path(importlib.util.find_spec("numpy").origin).parent
    paths = [*root.rglob("*.so"), *root.parent.glob("numpy.libs/*.so*")]
    assert paths
    for path in paths:
        data = path.read_bytes()
        found = read_library(lambda start, length, data=data: data[start : start + length])
        assert found.bits == 64
        assert 4096 <= found.page_size <= 2**21
        try:
            done = subprocess.run(["readelf", "-lW", path], capture_output=True, text=True, check=True)
        except FileNotFoundError:
            continue
        loads = [line.split() for line in done.stdout.splitlines() if line.split()[:1] == ["LOAD"]]
        assert [(s.offset, s.address, s.alignment) for s in found.segments] == [
            (int(words[1], 16), int(words[2], 16), int(words[-1], 16)) for words in loads
        ]


def test_any_bytes_are_a_library_or_none():
    good = made.elf()
    for at in range(len(good)):
        for value in (0, 0xFF):
            data = good[:at] + bytes([value]) + good[at + 1 :]
            try:
                found = read_library(lambda start, length, data=data: data[start : start + length])
            except DamagedError:
                continue
            assert found.page_size >= 0
