"""Files run in a process of their own: what is wrong with one is an error that names it, never a crash."""

import sys

import child_functions
import numpy as np
import pytest

from mbn_deploy.bundle.open import Bundle
from mbn_deploy.errors import UsageError, VerificationError
from mbn_deploy.verify import interpreter_process
from mbn_deploy.verify.interpreter_process import FileToRun, run_files

PIXELS = np.zeros((1, 32, 32, 3), np.uint8)


@pytest.fixture
def file(exported):
    """A function: a TFLite file of the digits' bundle, cut off where it is told to be."""
    bundle = Bundle.read(exported[0])

    def file_to_run(precision, *, integer=False, cut=None):
        entry = bundle.file("tflite", precision)
        data = bundle.path(entry).read_bytes()[:cut]
        return FileToRun(data, "tflite", entry.preprocess, entry.layout, integer)

    return file_to_run


def test_a_file_that_the_interpreter_refuses_is_named(file):
    files = {"good.tflite": file("float32"), "bad.tflite": file("float32", cut=9000)}
    with pytest.raises(VerificationError, match=r"^bad\.tflite"):
        run_files(files, PIXELS)


def test_a_file_with_float_ops_is_not_called_int8(file):
    with pytest.raises(VerificationError, match=r"^a\.tflite.* floats: .*CONV_2D"):
        run_files({"a.tflite": file("float32", integer=True)}, PIXELS)


def test_a_crash_of_the_interpreter_is_an_error_and_not_a_crash(file, monkeypatch):
    """The child dies in the second file, as it does where XNNPACK frees memory twice."""
    monkeypatch.setattr(interpreter_process, "run_file", child_functions.run_but_abort_on_b)
    files = {name: file("int8", integer=True) for name in ("a.tflite", "b.tflite", "c.tflite")}
    with pytest.raises(VerificationError, match=r"^b\.tflite.*SIGABRT"):
        run_files(files, PIXELS)


def test_no_process_can_be_started(file, monkeypatch):
    monkeypatch.setattr(sys, "executable", "")
    with pytest.raises(UsageError, match="could not be started"):
        run_files({"a.tflite": file("float32")}, PIXELS)
