"""An interpreter in a process of its own: the same answers, and errors where the process ends."""

import json
import os
import signal
import struct
import sys
import threading
import time

import numpy as np
import pytest
import runtime_models as models
from cli_run import run

from mbn_deploy.errors import InputError, MissingExtraError, UsageError
from mbn_deploy.runtime import Classifier, ClassifierPool
from mbn_deploy.runtime.backends import isolated as isolated_module
from mbn_deploy.runtime.backends import open_backend
from mbn_deploy.runtime.backends.isolated import IsolatedBackend, open_isolated

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no bounds on memory there")

FILES = [("tflite", models.float_tflite), ("tflite", models.int8_tflite), ("onnx", models.float_onnx)]


@pytest.fixture
def isolated():
    opened = open_isolated(models.float_tflite(), "tflite", threads=1, where="m.tflite")
    yield opened
    opened.close()


def zeros(backend):
    return np.zeros(backend.input.shape, backend.input.dtype)


@pytest.mark.parametrize(("kind", "make"), FILES, ids=["float tflite", "int8 tflite", "onnx"])
def test_the_same_as_in_this_process(kind, make):
    here = open_backend(make(), kind, threads=1)
    there = open_isolated(make(), kind, threads=1, where="m")
    facts = ("name", "threads", "input", "output", "kernels")
    assert [getattr(there, fact) for fact in facts] == [getattr(here, fact) for fact in facts]
    assert dict(there.metadata) == dict(here.metadata)
    values = zeros(here)
    np.testing.assert_array_equal(there.run(values), here.run(values))
    there.close()


@pytest.mark.parametrize("opener", [Classifier.open, ClassifierPool.open])
def test_a_classifier(opener, tmp_path):
    path = tmp_path / "m.tflite"
    path.write_bytes(models.float_tflite())
    with opener(path, isolate=True, threads=1) as there, Classifier.open(path, threads=1) as here:
        assert there.classify(models.pictures(1)[0]) == here.classify(models.pictures(1)[0])


def test_a_bundle_is_checked_in_spite_of_its_manifest(tmp_path):
    folder = tmp_path / "bundle"
    models.write_bundle(folder, [("m.tflite", "tflite", "float32", models.float_tflite(), models.TF, "nhwc")])
    with Classifier.open(folder, isolate=True) as there:
        assert there.classify(models.pictures(1)[0])


def test_what_is_wrong_with_a_file_is_said_as_ever():
    data = models.float_tflite()
    with pytest.raises(InputError, match=r"m\.tflite: damaged"):
        open_isolated(data[: len(data) // 2], "tflite", where="m.tflite")


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT])
def test_a_crash_is_an_error(isolated, number):
    os.kill(isolated._child.pid, number)
    with pytest.raises(InputError, match=f"m.tflite: litert crashed on it.*{number.name}"):
        isolated.run(zeros(isolated))
    with pytest.raises(UsageError, match="closed"):
        isolated.run(zeros(isolated))


def test_a_hang_is_an_error(isolated):
    os.kill(isolated._child.pid, signal.SIGSTOP)
    isolated._seconds = 0.5
    with pytest.raises(InputError, match=r"no answer within 0\.5 s"):
        isolated.run(zeros(isolated))


def test_a_hang_while_opening():
    with pytest.raises(InputError, match=r"no answer within 0\.001 s"):
        IsolatedBackend(models.float_tflite(), "tflite", "litert", 1, "m.tflite", seconds=0.001)


def test_growth_is_an_error():
    """The file is sound; so little memory is not enough to read its bytes and to prepare it."""
    with pytest.raises(InputError, match=r"m\.onnx: (it needs more than|onnx crashed|.*[Mm]emory|.*alloc)"):
        IsolatedBackend(models.float_onnx(), "onnx", "onnx", 1, "m.onnx", memory=1)


def test_nothing_stays_behind():
    opened = open_isolated(models.float_tflite(), "tflite", threads=1, where="m.tflite")
    child = opened._child
    before = threading.active_count()
    opened.run(zeros(opened))
    opened.close()
    assert child.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 60
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= before


@pytest.mark.parametrize(
    ("opener", "count"), [(Classifier.open, 1), (ClassifierPool.open, 1), (ClassifierPool.open, 3)]
)
def test_nothing_stays_behind_of_a_file_that_is_refused_when_it_is_open(monkeypatch, tmp_path, opener, count):
    made = []

    class Counted(IsolatedBackend):
        def __init__(self, *args, **options):
            if len(made) == 2:
                raise InputError("no more of them")
            super().__init__(*args, **options)
            made.append(self)

    monkeypatch.setattr("mbn_deploy.runtime.backends.isolated.IsolatedBackend", Counted)
    path = tmp_path / "m.tflite"
    path.write_bytes(models.float_tflite())
    wrong = {"size": count} if count > 1 else {"labels": ["one"]}
    with pytest.raises(InputError, match=r"no more of them|1 labels"):
        opener(path, isolate=True, threads=1, **wrong)
    assert [opened._child.returncode for opened in made] == [-signal.SIGKILL] * min(count, 2)


def test_other_shapes_are_refused(isolated):
    with pytest.raises(UsageError, match=r"m\.tflite takes float32"):
        isolated.run(np.zeros((1, 2), np.float32))
    with pytest.raises(UsageError, match="threads"):
        open_isolated(b"", "tflite", threads=0, where="m")


def test_a_package_that_is_missing_is_said_as_without_isolation(monkeypatch, tmp_path):
    path = tmp_path / "tflite_runtime"  # what is installed by halves has a folder and no interpreter
    path.mkdir()
    (path / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingExtraError) as here:
        open_backend(models.float_tflite(), "tflite", name="tflite")
    with pytest.raises(MissingExtraError) as there:
        open_isolated(models.float_tflite(), "tflite", name="tflite", where="m")
    assert str(here.value) == str(there.value)
    assert there.value.extra == "tflite"


def test_a_file_that_does_not_fit_through_the_pipe_is_refused_before(monkeypatch):
    monkeypatch.setattr(isolated_module, "_LARGEST_BODY", 2_000_000)
    with pytest.raises(InputError, match=r"big\.tflite: 3 MB; a process of its own takes files of 2 MB at most"):
        open_isolated(bytes(3_000_000), "tflite", where="big.tflite")


def test_where_no_process_can_be_started(monkeypatch):
    monkeypatch.setattr(sys, "executable", "")
    with pytest.raises(UsageError, match="no process of its own can be started for m"):
        open_isolated(models.float_tflite(), "tflite", where="m")


def test_the_command(exported, picture):
    told = run("run", exported[0], picture, "--isolate")
    plain = run("run", exported[0], picture)
    assert (told.exit_code, told.stdout) == (0, plain.stdout)


SAYS = """
import struct, sys
for frame in map(bytes.fromhex, sys.argv[1:]):
    size = struct.unpack("<I", sys.stdin.buffer.read(4))[0]
    head = sys.stdin.buffer.read(size)
    sys.stdin.buffer.read(int(head.split(b'"size": ')[1].rstrip(b"}")))
    sys.stdout.buffer.write(frame)
    sys.stdout.buffer.flush()
sys.stdin.buffer.read()
"""
TENSOR = {"name": "t", "shape": [1, 2], "dtype": "float32", "scale": None, "zero_point": None}
FACTS = {"input": TENSOR, "output": TENSOR, "kernels": "", "metadata": {}}


def frame(head, body=b""):
    text = json.dumps(head).encode()
    return struct.pack("<I", len(text)) + text + body


@pytest.fixture
def taken_over(monkeypatch):
    """Opens a file whose child answers every frame with the next of these bytes."""

    def opened(*frames):
        command = [sys.executable, "-c", SAYS, *(data.hex() for data in frames)]
        monkeypatch.setattr("mbn_deploy.runtime.backends.isolated.child_command", lambda _: command)
        return IsolatedBackend(b"x", "tflite", "litert", 1, "m.tflite")

    return opened


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        (struct.pack("<I", 2**21), "crashed"),  # a head that is too long
        (frame(["size", 0]), "crashed"),
        (frame({"size": -1}), "crashed"),
        (frame({"size": 2**28 + 1}), "crashed"),
        (frame({"size": 0}), "nonsense"),
        (frame(FACTS | {"size": 0, "input": TENSOR | {"dtype": "object"}}), "nonsense: a tensor of type object"),
        (frame(FACTS | {"size": 0, "output": TENSOR | {"shape": [1, 0]}}), r"nonsense: a tensor .*\(1, 0\)"),
        (frame(FACTS | {"size": 0, "output": TENSOR | {"shape": 7}}), "nonsense"),
        (frame({"size": 0, "error": "no such operation"}), "no such operation"),
    ],
)
def test_a_child_that_was_taken_over_is_not_believed(taken_over, said, answer):
    with pytest.raises(InputError, match=answer):
        taken_over(said)


def test_an_answer_of_another_length(taken_over):
    opened = taken_over(frame(FACTS | {"size": 0}), frame({"size": 4}, bytes(4)))
    with pytest.raises(InputError, match=r"m\.tflite: the process that runs it answers with 4 bytes"):
        opened.run(np.zeros((1, 2), np.float32))
    opened.close()
