"""The commands on ARM, from wheels alone: what a person types on a board, and what it answers."""

import json

import arm
import pytest

pytestmark = [pytest.mark.arm, pytest.mark.skipif(not arm.READY, reason=arm.REASON)]

ALL = (*arm.AARCH64, arm.ARMV7L)


def answer(board, *words, expected=0, timeout=300):
    """The JSON of a command on the board."""
    done = board.command(*words, "--json", timeout=timeout)
    assert done.returncode == expected, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("cpu", ALL)
def test_run(board, cpu, demo_bundles, picture):
    """From the file of a picture to the digit on it."""
    (found,) = answer(board(cpu), "run", demo_bundles[0], picture)["images"]
    assert found["predictions"][0]["label"] == "7"


@pytest.mark.parametrize("cpu", arm.AARCH64)
def test_verify_by_the_kernels_of_the_export(board, cpu, demo_bundles):
    """XNNPACK takes the same operations, ONNX Runtime all; the outputs are what they were on x86-64."""
    for bundle in demo_bundles:
        found = answer(board(cpu), "verify", bundle)
        assert found["passed"]
        assert len(found["files"]) == 4
        assert found["not_replayed"] == []
        for file in found["files"]:
            assert not file["other_kernels"], file
            assert file["operations"]["against"] == ["export"]
            assert file["operations"]["before_answers"] is not None
            assert file["largest"] <= file["tolerance"]


def test_verify_by_other_kernels(board, demo_bundles):
    """tflite-runtime on armv7l has no XNNPACK: int8 outputs are levels off, each operation one at most."""
    moved = []
    for bundle in demo_bundles:
        found = answer(board(arm.ARMV7L), "verify", bundle)
        assert found["passed"]
        assert len(found["not_replayed"]) == 2  # the .onnx files
        for file in found["files"]:
            assert file["kernels"] == "built-in kernels"
            assert file["other_kernels"]
            if "reference" in file["operations"]["against"]:
                moved.append(file["operations"])
    assert moved
    assert all(checked["largest"] <= 1 for checked in moved)
    assert all(checked["against"] == ["export", "reference"] for checked in moved)


@pytest.mark.parametrize("cpu", [arm.AARCH64[1], arm.ARMV7L])
def test_verify_names_the_operation_of_a_changed_file(board, cpu, demo_bundles, tmp_path):
    import shutil

    from changed_models import LAYER, change_layer

    bundle = shutil.copytree(demo_bundles[0], tmp_path / "bundle")
    name = next(bundle.glob("*int8.tflite")).name
    change_layer(bundle / name, channel=5)
    found = answer(board(cpu), "verify", bundle, expected=5)
    (failed,) = [file for file in found["files"] if not file["passed"]]
    assert failed["file"] == name
    assert failed["operations"]["first"]["name"] == f"{LAYER}_relu"


@pytest.mark.parametrize("cpu", arm.AARCH64)
def test_doctor_on_aarch64(board, cpu):
    found = answer(board(cpu), "doctor")
    assert found["works"]
    assert found["place"]["architecture"] == "aarch64"
    assert ("dot product" in found["features"]) == (cpu == arm.AARCH64[2])
    by_name = {i["backend"]: i for i in found["interpreters"]}
    assert by_name["litert"]["probes"][0]["kernels"].startswith("XNNPACK")
    assert all(p["error"] is None for name in ("litert", "onnx") for p in by_name[name]["probes"])
    assert by_name["tflite"]["installed"] is None
    assert found["missing"] == []


def test_doctor_on_armv7l(board):
    """An honest answer: one interpreter, no XNNPACK, nothing for .onnx, and what to do about numpy."""
    found = answer(board(arm.ARMV7L), "doctor")
    assert found["works"]
    assert (found["place"]["architecture"], found["features"]) == ("armv7l", ["NEON", "VFPv4"])
    available = {i["backend"]: i["available"] for i in found["interpreters"]}
    assert available == {"litert": None, "tflite": "2.14.0", "onnx": None}
    assert {p["kernels"] for i in found["interpreters"] for p in i["probes"]} == {"built-in kernels"}
    assert "without XNNPACK" in found["expect"][0]
    assert "onnxruntime has no wheel for Linux on armv7l" in found["missing"][0]
    assert "python3-numpy" in found["missing"][-1]


def test_doctor_s_screen(board):
    done = board(arm.ARMV7L).command("doctor")
    assert done.returncode == 0, done.stderr
    assert all(len(line.rstrip()) <= 80 for line in done.stdout.splitlines())
    assert "What is missing:" in done.stdout


@pytest.mark.parametrize("cpu", [arm.AARCH64[1], arm.ARMV7L])
def test_benchmark(board, cpu, demo_bundles):
    """Times mean nothing under emulation; that all of it works does. An emulator starts no emulated child process."""
    words = ["benchmark", demo_bundles[0], "--runs", 4, "--warmup", 1, "--threads", "1,2", "--openings", 1]
    found = answer(board(cpu), *words)
    backends = {"tflite"} if cpu == arm.ARMV7L else {"litert", "onnx"}
    assert {case["backend"] for case in found["cases"]} == backends
    assert len(found["cases"]) == 2 * 2 * len(backends)
    for case in found["cases"]:
        assert case["runs"] == 4
        assert all(case["quantiles"][phase]["p50"] > 0 for phase in ("preprocess", "inference", "postprocess"))
        assert (case["cost"] is None) != (case["cost_absent"] is None)
    assert found["machine"]["architecture"] == ("armv7l" if cpu == arm.ARMV7L else "aarch64")
    left_out = [note for note in found["notes"] if note.startswith("left out because onnxruntime")]
    assert bool(left_out) == (cpu == arm.ARMV7L)


def test_a_board_that_cannot_start_a_process_says_what_to_do(board, demo_bundles, picture):
    """The emulator runs a single program; a lone file is tried in another one."""
    file = next(demo_bundles[0].glob("*int8.tflite"))
    done = board("cortex-a72").command("run", file, picture)
    assert done.returncode == 2
    assert "--trust" in done.stderr


def test_benchmark_tunes_for_the_next_command(board, demo_bundles, picture, tmp_path):
    here, cache = board(arm.ARMV7L), {"XDG_CACHE_HOME": tmp_path}
    file = next(demo_bundles[0].glob("*int8.tflite"))
    words = ["benchmark", file, "--trust", "--tune", "--runs", 4, "--warmup", 1, "--openings", 0, "--json"]
    done = here.command(*words, timeout=300, environment=cache)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["kept"] == [str(tmp_path / "mbn-deploy" / "threads.json")]
    done = here.command("run", file, picture, "--trust", "--json", timeout=300, environment=cache)
    assert json.loads(done.stdout)["model"]["threads_from"] == "tuned"
