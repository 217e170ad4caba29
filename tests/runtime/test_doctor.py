"""`doctor`: this machine as it is, other machines by their facts, and odd ones that tell nothing."""

import importlib.util
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cli_run import run

from mbn_deploy.runtime.backends import MODULES
from mbn_deploy.runtime.doctor import doctor, probe, wheels
from mbn_deploy.runtime.doctor.probe import Probe
from mbn_deploy.runtime.doctor.wheels import WHEELS, Place, wheel_for, why_not
from mbn_deploy.runtime.system import cpu

ROOT = Path(__file__).parents[2]
PI = Place("Linux", "aarch64", "3.11", "CPython", "glibc", (2, 36))


def test_this_machine_runs_what_is_installed_here():
    result = run("doctor")
    assert result.exit_code == 0, result.stderr
    assert all(len(line.rstrip()) <= 80 for line in result.stdout.splitlines())
    assert re.search(r"ai-edge-litert \(litert\) +\.tflite +\S+ +\S+ +XNNPACK +XNNPACK", result.stdout)
    assert re.search(r"onnxruntime \(onnx\) +\.onnx +\S+ +\S+ +MLAS +MLAS", result.stdout)
    assert f"as of {wheels.AS_OF}" in result.stdout


def test_json():
    result = run("doctor", "--json")
    answer = json.loads(result.stdout)
    assert answer["works"] is True
    assert [i["backend"] for i in answer["interpreters"]] == list(MODULES)
    litert = answer["interpreters"][0]
    assert [p["precision"] for p in litert["probes"]] == ["int8", "float32"]
    assert [p["error"] for p in litert["probes"]] == [None, None]
    assert litert["probes"][0]["kernels"].startswith("XNNPACK (")  # it has no int8 softmax
    assert answer["memory"] > answer["memory_available"] > 0
    assert answer["place"]["python"] == f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.mark.parametrize(
    ("place", "found"),
    [
        (PI, {"litert": "2.3.0", "tflite": "2.14.0", "onnx": "1.32.0"}),
        (replace(PI, python="3.12"), {"litert": "2.3.0", "tflite": None, "onnx": "1.32.0"}),
        (replace(PI, python="3.14"), {"litert": "2.3.0", "tflite": None, "onnx": "1.32.0"}),
        (replace(PI, python="3.10"), {"litert": "2.3.0", "tflite": "2.14.0", "onnx": "1.23.2"}),
        (replace(PI, python="3.13t"), {"litert": None, "tflite": None, "onnx": "1.32.0"}),
        (replace(PI, python="3.15"), {"litert": None, "tflite": None, "onnx": None}),
        (replace(PI, libc_version=(2, 31)), {"litert": "2.3.0", "tflite": None, "onnx": "1.32.0"}),
        (replace(PI, libc_version=(2, 27)), {"litert": "2.3.0", "tflite": None, "onnx": "1.28.0"}),
        (replace(PI, libc_version=(2, 24)), {"litert": None, "tflite": None, "onnx": None}),
        (replace(PI, libc="musl", libc_version=()), {"litert": None, "tflite": None, "onnx": None}),
        (replace(PI, implementation="PyPy"), {"litert": None, "tflite": None, "onnx": None}),
        (replace(PI, architecture="armv7l"), {"litert": None, "tflite": "2.14.0", "onnx": None}),
        (replace(PI, architecture="armv7l", python="3.12"), {"litert": None, "tflite": None, "onnx": None}),
        (replace(PI, architecture="armv6l"), {"litert": None, "tflite": None, "onnx": None}),
        (
            Place("Darwin", "aarch64", "3.13", "CPython", None, (15, 1)),
            {"litert": "2.3.0", "tflite": None, "onnx": "1.32.0"},
        ),
        (
            Place("Darwin", "x86_64", "3.12", "CPython", None, (13, 6)),
            {"litert": None, "tflite": None, "onnx": "1.23.2"},
        ),
        (
            Place("Windows", "x86_64", "3.12", "CPython", None, ()),
            {"litert": "2.3.0", "tflite": None, "onnx": "1.32.0"},
        ),
        (Place("Windows", "aarch64", "3.12", "CPython", None, ()), {"litert": None, "tflite": None, "onnx": "1.32.0"}),
    ],
    ids=str,
)
def test_what_pip_finds_for_a_machine(place, found):
    for backend, version in found.items():
        wheel = wheel_for(backend, place)
        assert (None if wheel is None else wheel.version) == version, backend
        if wheel is None:
            assert "has no wheel for" in why_not(backend, place)


@pytest.mark.parametrize(
    ("place", "backend", "words"),
    [
        (replace(PI, architecture="armv7l"), "litert", "ai-edge-litert has no wheel for Linux on armv7l"),
        (replace(PI, architecture="armv7l", python="3.13"), "tflite", "Python 3.13 there (it has 3.10, 3.11)"),
        (replace(PI, libc="musl", libc_version=()), "litert", "musl (Alpine); it needs glibc"),
        (replace(PI, libc_version=(2, 24)), "litert", "glibc 2.24; it needs 2.27"),
        (Place("Darwin", "aarch64", "3.12", "CPython", None, (11, 7)), "litert", "macOS 11.7; it needs 12.0"),
        (replace(PI, implementation="PyPy"), "onnx", "for PyPy"),
    ],
)
def test_the_reason_is_what_comes_closest(place, backend, words):
    assert words in why_not(backend, place)


def test_what_is_installed_here_is_in_the_table():
    """The table is not behind the oldest versions that this package takes, and knows this machine."""
    place = wheels.this_place()
    assert wheel_for("litert", place) is not None
    assert wheel_for("onnx", place) is not None
    assert {wheel.backend for wheel in WHEELS} == set(MODULES)


def reports(place, **installed):
    """Interpreters of a machine: a backend's probes as kernels of (int8, float32), or an error."""
    made = []
    for backend in MODULES:
        wheel = wheel_for(backend, place)
        told = installed.get(backend)
        probes = ()
        if isinstance(told, tuple):
            probes = tuple(Probe(backend, p, kernels=k) for p, k in zip(probe.PRECISIONS, told, strict=True))
        elif told:
            probes = tuple(Probe(backend, p, error=told) for p in probe.PRECISIONS)
        made.append(
            doctor.InterpreterReport(
                backend, backend, "onnx" if backend == "onnx" else "tflite", told and "1.0",
                wheel and wheel.version, None if wheel else why_not(backend, place), probes,
            )
        )  # fmt: skip
    return made


def test_expectations_follow_the_processor_and_what_really_ran():
    def said(place, has, **installed):
        return " ".join(doctor.expectations(place, has, reports(place, **installed)))

    assert "dot product and i8mm" in said(PI, ("NEON", "dot product", "i8mm"))
    assert "No dot product" in said(PI, ("NEON",))
    x86 = replace(PI, architecture="x86_64")
    assert "VNNI, and AMX" in said(x86, ("AVX2", "AVX-512", "VNNI", "AMX int8"))
    assert "saturate" in said(x86, ("AVX2",))
    assert "does not tell" in said(x86, None)
    armv7 = replace(PI, architecture="armv7l")
    slow = ("built-in kernels", "built-in kernels")
    assert "So it does float32" in said(armv7, ("NEON",), tflite=slow)
    assert "Without NEON" in said(armv7, (), tflite=slow)
    assert "float32 may well be faster" in said(x86, (), tflite=("built-in kernels", "XNNPACK"))
    both = said(x86, (), tflite=slow, litert=("XNNPACK", "XNNPACK"))
    assert "without XNNPACK" not in both  # the other one is taken first


def test_missing_names_the_exact_line_and_the_reason():
    assert doctor.missing(PI, reports(PI)) == [
        ".tflite files: pip install 'mbn-deploy[litert]'",
        ".onnx files: pip install 'mbn-deploy[onnx]'",
    ]
    working = reports(PI, litert=("XNNPACK", "XNNPACK"), onnx=("MLAS", "MLAS"))
    assert doctor.missing(PI, working) == []
    broken = doctor.missing(PI, reports(PI, litert="it crashed", onnx=("MLAS", "MLAS")))
    assert broken[0] == "litert 1.0 does not run int8 files: it crashed"
    assert broken[2] == ".tflite files: pip install 'mbn-deploy[tflite]'"
    armv7 = replace(PI, architecture="armv7l", python="3.13")
    words = " ".join(doctor.missing(armv7, reports(armv7)))
    assert "nothing that pip could install for CPython 3.13 on Linux armv7l, glibc 2.36" in words
    assert "bundle pi --arch armv7l" in words


def test_exit_code_4_where_nothing_runs(monkeypatch):
    monkeypatch.setattr(doctor, "installed", lambda backend: False)
    result = run("doctor")
    assert result.exit_code == 4
    assert "pip install 'mbn-deploy[litert]'" in result.stdout


def test_probes_answer_what_they_should():
    for backend in ("litert", "onnx"):
        for precision in probe.PRECISIONS:
            found = probe.tried(backend, precision)
            assert found.works, found.error
            assert found.kernels


def test_a_wrong_answer_is_noticed(monkeypatch):
    monkeypatch.setattr(probe, "EXPECTED", (0.9, 0.05, 0.03, 0.02))
    found = probe.tried("onnx", "float32")
    assert not found.works
    assert "it answers" in found.error


def test_an_interpreter_that_crashes_or_is_half_there_ends_no_doctor(monkeypatch, tmp_path):
    package = tmp_path / "onnxruntime"
    package.mkdir()
    (package / "__init__.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGILL)\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert "crashed (signal 4)" in probe.probe("onnx", "int8").error
    (package / "__init__.py").write_text("raise OSError('libfoo.so.1: cannot open shared object file')\n")
    assert probe.probe("onnx", "int8").error == "OSError: libfoo.so.1: cannot open shared object file"
    (package / "__init__.py").write_text("import sys\nsys.exit('no licence')\n")
    assert probe.probe("onnx", "int8").error == "it ended without an answer: no licence"


def test_where_no_process_can_be_started_it_runs_here(monkeypatch):
    def refused(*args, **kwargs):
        raise OSError(8, "Exec format error")

    monkeypatch.setattr(subprocess, "run", refused)
    assert probe.probe("onnx", "int8") == probe.tried("onnx", "int8")


def test_probes_are_as_their_script_makes_them(tmp_path):
    """But for what a later version of the writers adds: a few bytes."""
    spec = importlib.util.spec_from_file_location("make_probes", ROOT / "scripts" / "make_probes.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    shipped = script.FOLDER
    script.FOLDER = tmp_path
    script.main()
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in shipped.iterdir()}
    for made in tmp_path.iterdir():
        assert abs(made.stat().st_size - (shipped / made.name).stat().st_size) < 500, made.name


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("flags\t\t: fpu avx2 avx_vnni\n", ("AVX2", "VNNI")),
        ("flags : avx2 avx512f avx512_vnni amx_tile amx_int8\nflags : fpu\n", ("AVX2", "AVX-512", "VNNI", "AMX int8")),
        ("flags : fpu sse\n", ()),
        ("nothing of the kind\n", None),
        (None, None),
    ],
)
def test_features_of_x86_are_read_off_cpuinfo(tmp_path, text, found, monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    if text is not None:
        (tmp_path / "proc").mkdir()
        (tmp_path / "proc" / "cpuinfo").write_text(text)
    assert cpu.features("x86_64", tmp_path) == found


def test_features_of_arm_are_bits_of_the_auxiliary_vector(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    words = {16: 1 << 1 | 1 << 10 | 1 << 20, 26: 1 << 13}
    monkeypatch.setattr(cpu, "_auxiliary", words.get)
    assert cpu.features("aarch64") == ("NEON", "fp16", "dot product", "i8mm")
    words.update({16: 1 << 12 | 1 << 16, 26: 0})
    assert cpu.features("armv7l") == ("NEON", "VFPv4")
    words.update({16: 0})
    assert cpu.features("armv7l") is None
    assert cpu.features("riscv64") is None
    monkeypatch.setattr(sys, "platform", "darwin")
    assert cpu.features("aarch64") is None


def test_a_container_s_limits_count(tmp_path):
    for name, text in {
        "proc/meminfo": "MemTotal: 8000 kB\nMemAvailable:  4000 kB\nHugePages_Total: 0\nodd\n",
        "sys/fs/cgroup/memory.max": "2048000\n",
        "sys/fs/cgroup/cpu.max": "150000 100000\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert cpu.memory(tmp_path) == (2048000, 2048000)
    assert cpu.processor_quota(tmp_path) == 1.5
    (tmp_path / "sys/fs/cgroup/memory.max").write_text("max\n")
    (tmp_path / "sys/fs/cgroup/cpu.max").write_text("max 100000\n")
    assert cpu.memory(tmp_path) == (8192000, 4096000)
    assert cpu.processor_quota(tmp_path) is None


def test_a_machine_without_proc_tells_what_it_can(tmp_path):
    total, available = cpu.memory(tmp_path)
    assert available is None
    assert total is None or total > 0
    assert cpu.processor_quota(tmp_path) is None


@pytest.mark.parametrize(
    ("machine", "pointer", "found"),
    [
        ("AMD64", 8, "x86_64"),
        ("arm64", 8, "aarch64"),
        ("aarch64", 4, "armv7l"),
        ("armv8l", 4, "armv7l"),
        ("armv6l", 4, "armv6l"),
        ("x86_64", 4, "i686"),
        ("riscv64", 8, "riscv64"),
    ],
)
def test_architecture_is_that_of_this_python(machine, pointer, found, monkeypatch):
    monkeypatch.setattr(cpu.platform, "machine", lambda: machine)
    monkeypatch.setattr(cpu.struct, "calcsize", lambda _: pointer)
    assert cpu.architecture() == found


def test_musl_is_told_from_an_unknown_library(monkeypatch):
    monkeypatch.setattr(wheels.os, "confstr", lambda _: None, raising=False)
    monkeypatch.setattr(wheels.sysconfig, "get_config_var", lambda _: "cpython-312-x86_64-linux-musl")
    assert wheels._libc() == ("musl", ())
    assert str(replace(PI, libc="musl", libc_version=())) == "CPython 3.11 on Linux aarch64, musl"
    assert str(replace(PI, libc=None, libc_version=())) == "CPython 3.11 on Linux aarch64"
    assert str(Place("Darwin", "aarch64", "3.12", "CPython", None, (15, 1))) == "CPython 3.12 on macOS 15.1, aarch64"


def test_expected_answers_are_probabilities():
    assert np.isclose(sum(probe.EXPECTED), 1, atol=0.01)
