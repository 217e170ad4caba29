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

from mbn_deploy.runtime.backends.modules import MODULES
from mbn_deploy.runtime.doctor import doctor, probe, wheels
from mbn_deploy.runtime.doctor.probe import Probe
from mbn_deploy.runtime.doctor.wheels import WHEELS, PythonPlatform, wheel_for, why_no_wheel
from mbn_deploy.runtime.system import cpu

ROOT = Path(__file__).parents[2]
PI = PythonPlatform("Linux", "aarch64", "3.11", "CPython", "glibc", (2, 36))


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
            PythonPlatform("Darwin", "aarch64", "3.13", "CPython", None, (15, 1)),
            {"litert": "2.3.0", "tflite": None, "onnx": "1.32.0"},
        ),
        (
            PythonPlatform("Darwin", "x86_64", "3.12", "CPython", None, (13, 6)),
            {"litert": None, "tflite": None, "onnx": "1.23.2"},
        ),
        (
            PythonPlatform("Windows", "x86_64", "3.12", "CPython", None, ()),
            {"litert": "2.3.0", "tflite": None, "onnx": "1.32.0"},
        ),
        (
            PythonPlatform("Windows", "aarch64", "3.12", "CPython", None, ()),
            {"litert": None, "tflite": None, "onnx": "1.32.0"},
        ),
    ],
    ids=str,
)
def test_what_pip_finds_for_a_machine(place, found):
    for backend, version in found.items():
        wheel = wheel_for(backend, place)
        assert (None if wheel is None else wheel.version) == version, backend
        if wheel is None:
            assert "has no wheel for" in why_no_wheel(backend, place)


@pytest.mark.parametrize(
    ("place", "backend", "words"),
    [
        (replace(PI, architecture="armv7l"), "litert", "ai-edge-litert has no wheel for Linux on armv7l"),
        (replace(PI, architecture="armv7l", python="3.13"), "tflite", "Python 3.13 there"),
        (replace(PI, libc="musl", libc_version=()), "litert", "musl (Alpine)"),
        (replace(PI, libc_version=(2, 24)), "litert", "glibc 2.24"),
        (PythonPlatform("Darwin", "aarch64", "3.12", "CPython", None, (11, 7)), "litert", "macOS 11.7"),
        (replace(PI, implementation="PyPy"), "onnx", "for PyPy"),
    ],
)
def test_the_reason_is_what_comes_closest(place, backend, words):
    assert words in why_no_wheel(backend, place)


def test_what_is_installed_here_is_in_the_table():
    """The table is not behind the oldest versions that this package takes, and knows this machine."""
    place = wheels.this_platform()
    assert wheel_for("litert", place) is not None
    assert wheel_for("onnx", place) is not None
    assert {wheel.backend for wheel in WHEELS} == set(MODULES)


def reports(place, **installed):
    """Interpreters of a machine: a backend's probes as kernels of (int8, float32), or an error."""
    every = []
    for backend in MODULES:
        wheel, outcome = wheel_for(backend, place), installed.get(backend)
        probes = ()
        if isinstance(outcome, tuple):
            probes = tuple(Probe(backend, p, kernels=k) for p, k in zip(probe.PRECISIONS, outcome, strict=True))
        elif outcome:
            probes = tuple(Probe(backend, p, error=outcome) for p in probe.PRECISIONS)
        every.append(
            doctor.InterpreterReport(
                backend=backend,
                package=backend,
                format="onnx" if backend == "onnx" else "tflite",
                installed=outcome and "1.0",
                available=wheel and wheel.version,
                reason=None if wheel else why_no_wheel(backend, place),
                probes=probes,
            )
        )
    return every


def test_expectations_follow_the_processor_and_what_really_ran():
    def expected(place, instruction_sets, **installed):
        return " ".join(doctor.expectations(place, instruction_sets, reports(place, **installed)))

    assert "dot product and i8mm" in expected(PI, ("NEON", "dot product", "i8mm"))
    assert "no dot product" in expected(PI, ("NEON",))
    x86 = replace(PI, architecture="x86_64")
    assert "AMX" in expected(x86, ("AVX2", "AVX-512", "VNNI", "AMX int8"))
    assert "AMX" not in expected(x86, ("AVX2", "AVX-512", "VNNI"))
    assert "no VNNI" in expected(x86, ("AVX2",))
    assert "no AVX2" in expected(x86, ())
    assert "does not report" in expected(x86, None)
    armv7 = replace(PI, architecture="armv7l")
    slow = ("built-in kernels", "built-in kernels")
    assert "The same is true of float32" in expected(armv7, ("NEON",), tflite=slow)
    assert "Without NEON" in expected(armv7, (), tflite=slow)
    assert "float32 uses XNNPACK" in expected(x86, (), tflite=("built-in kernels", "XNNPACK"))
    both = expected(x86, (), tflite=slow, litert=("XNNPACK", "XNNPACK"))
    assert "without XNNPACK" not in both  # the other one is used by default


def test_missing_names_the_exact_line_and_the_reason():
    assert doctor.missing(PI, reports(PI)) == [
        ".tflite files: pip install 'mbn-deploy[litert]'",
        ".onnx files: pip install 'mbn-deploy[onnx]'",
    ]
    working = reports(PI, litert=("XNNPACK", "XNNPACK"), onnx=("MLAS", "MLAS"))
    assert doctor.missing(PI, working) == []
    broken = doctor.missing(PI, reports(PI, litert="it crashed", onnx=("MLAS", "MLAS")))
    assert all(part in broken[0] for part in ("litert 1.0", "int8", "it crashed"))
    assert broken[2] == ".tflite files: pip install 'mbn-deploy[tflite]'"
    armv7 = replace(PI, architecture="armv7l", python="3.13")
    words = " ".join(doctor.missing(armv7, reports(armv7)))
    assert "CPython 3.13 on Linux armv7l, glibc 2.36" in words
    assert "bundle pi --arch armv7l" in words


def test_exit_code_4_where_nothing_runs(monkeypatch):
    monkeypatch.setattr(doctor, "installed", lambda backend: False)
    result = run("doctor")
    assert result.exit_code == 4
    assert "pip install 'mbn-deploy[litert]'" in result.stdout


def test_probes_answer_what_they_should():
    for backend in ("litert", "onnx"):
        for precision in probe.PRECISIONS:
            found = probe.probe(backend, precision)
            assert found.works, found.error
            assert found.kernels


def test_a_wrong_answer_is_noticed(monkeypatch):
    monkeypatch.setattr(probe, "EXPECTED", (0.9, 0.05, 0.03, 0.02))
    found = probe.Probe(**probe.run_tiny_model("onnx", "float32"))
    assert not found.works
    assert "0.9" in found.error


def test_an_interpreter_that_crashes_or_is_half_there_ends_no_doctor(monkeypatch, tmp_path):
    package = tmp_path / "onnxruntime"
    package.mkdir()
    (package / "__init__.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGILL)\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert "SIGILL" in probe.probe("onnx", "int8").error
    (package / "__init__.py").write_text("raise OSError('libfoo.so.1: cannot open shared object file')\n")
    assert probe.probe("onnx", "int8").error == "OSError: libfoo.so.1: cannot open shared object file"
    (package / "__init__.py").write_text("import sys\nsys.exit('no licence')\n")
    assert probe.probe("onnx", "int8").error.endswith("no licence")


def test_where_no_process_can_be_started_it_runs_here(monkeypatch):
    def refused(*args, **kwargs):
        raise OSError(8, "Exec format error")

    monkeypatch.setattr(subprocess, "Popen", refused)
    assert probe.probe("onnx", "int8") == probe.Probe(**probe.run_tiny_model("onnx", "int8"))


def test_probes_are_as_their_script_makes_them(tmp_path, monkeypatch):
    """But for what a later version of the writers adds: a few bytes."""
    spec = importlib.util.spec_from_file_location("make_probes", ROOT / "scripts" / "make_probes.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    shipped = script.FOLDER
    script.FOLDER = tmp_path
    monkeypatch.setattr(sys, "argv", ["make_probes.py"])
    script.main()
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in shipped.iterdir()}
    for path in tmp_path.iterdir():
        assert abs(path.stat().st_size - (shipped / path.name).stat().st_size) < 500, path.name


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
    assert wheels.c_library() == ("musl", ())
    assert str(replace(PI, libc="musl", libc_version=())) == "CPython 3.11 on Linux aarch64, musl"
    assert str(replace(PI, libc=None, libc_version=())) == "CPython 3.11 on Linux aarch64"
    assert (
        str(PythonPlatform("Darwin", "aarch64", "3.12", "CPython", None, (15, 1)))
        == "CPython 3.12 on macOS 15.1, aarch64"
    )


def test_expected_answers_are_probabilities():
    assert np.isclose(sum(probe.EXPECTED), 1, atol=0.01)
