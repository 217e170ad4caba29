"""An interpreter in a process of its own: the same answers, and errors where the process ends."""

import os
import signal
import sys
import threading

import numpy as np
import pytest
import runtime_models as models
from cli_run import run

from mbn_deploy.errors import InputError, MissingExtraError, UsageError
from mbn_deploy.runtime import Classifier, ClassifierPool
from mbn_deploy.runtime.backends import isolated as isolated_module
from mbn_deploy.runtime.backends import open_backend
from mbn_deploy.runtime.backends.isolated import IsolatedBackend, open_isolated
from mbn_deploy.runtime.system.child import ChildProcess

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
    os.kill(isolated.pid, number)
    with pytest.raises(InputError, match=f"m.tflite: litert.*{number.name}"):
        isolated.run(zeros(isolated))
    with pytest.raises(UsageError, match="closed"):
        isolated.run(zeros(isolated))


def test_a_hang_is_an_error():
    opened = IsolatedBackend(models.float_tflite(), "tflite", "litert", 1, "m.tflite", seconds=10)
    os.kill(opened.pid, signal.SIGSTOP)
    with pytest.raises(InputError, match=r"m\.tflite: .*10 s"):
        opened.run(zeros(opened))


def test_a_hang_while_opening():
    with pytest.raises(InputError, match=r"m\.tflite: .*0\.001 s"):
        IsolatedBackend(models.float_tflite(), "tflite", "litert", 1, "m.tflite", seconds=0.001)


def test_growth_is_an_error():
    """The file is sound; so little memory is not enough to prepare it."""
    with pytest.raises(InputError, match=r"m\.onnx"):
        IsolatedBackend(models.float_onnx(), "onnx", "onnx", 1, "m.onnx", memory=1)


def gone(pid):
    """Whether no process has this number; an ended one that nobody waited for still has its own."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_nothing_stays_behind():
    opened = open_isolated(models.float_tflite(), "tflite", threads=1, where="m.tflite")
    before = threading.active_count()
    opened.run(zeros(opened))
    opened.close()
    assert gone(opened.pid)
    assert threading.active_count() < before


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
    assert len(made) == min(count, 2)
    assert all(gone(opened.pid) for opened in made)


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


def test_where_no_process_can_be_started(monkeypatch):
    monkeypatch.setattr(sys, "executable", "")
    with pytest.raises(UsageError, match=r"^m: .*could not be started"):
        open_isolated(models.float_tflite(), "tflite", where="m")


def test_the_command(exported, picture):
    told = run("run", exported[0], picture, "--isolate")
    plain = run("run", exported[0], picture)
    assert (told.exit_code, told.stdout) == (0, plain.stdout)


TENSOR = {"name": "t", "shape": (1, 2), "dtype": "float32", "scale": None, "zero_point": None}
FACTS = {"input": TENSOR, "output": TENSOR, "kernels": "", "metadata": []}


class TakenOver(ChildProcess):
    """A child that answers with what it was told to."""

    answers = ()

    def call(self, *_, **__):
        return self.answers.pop(0)


@pytest.fixture
def taken_over(monkeypatch):
    """Opens a file whose child answers with the next of these values; the first import of the interpreter with None."""

    def opened(*answers):
        monkeypatch.setattr(TakenOver, "answers", [None, *answers])
        monkeypatch.setattr(isolated_module, "ChildProcess", TakenOver)
        return IsolatedBackend(b"x", "tflite", "litert", 1, "m.tflite")

    return opened


@pytest.mark.parametrize(
    "answer",
    [
        None,
        {},
        FACTS | {"input": TENSOR | {"dtype": "object"}},
        FACTS | {"output": TENSOR | {"shape": (1, 0)}},
        FACTS | {"output": TENSOR | {"shape": 7}},
        FACTS | {"output": None},
        FACTS | {"metadata": [1]},
    ],
)
def test_a_child_that_was_taken_over_is_not_believed(taken_over, answer):
    with pytest.raises(InputError, match=r"^m\.tflite: .*wrong answer"):
        taken_over(answer)


@pytest.mark.parametrize("answer", [None, b"12345678", np.zeros(2, np.float32), np.zeros((1, 2), np.float64)])
def test_an_answer_of_another_kind(taken_over, answer):
    opened = taken_over(FACTS, answer)
    with pytest.raises(InputError, match=r"^m\.tflite: .*wrong answer"):
        opened.run(np.zeros((1, 2), np.float32))
    opened.close()
