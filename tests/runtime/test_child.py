"""Calls in a child process: what comes back, and a readable account of how it ended where nothing does."""

import os
import signal
import sys
import threading
import time

import child_functions as functions
import numpy as np
import pytest

from mbn_deploy.errors import InputError, MissingExtraError, UnknownNameError
from mbn_deploy.runtime.system.child import ChildError, ChildProcess, call_in_child

unix = pytest.mark.skipif(sys.platform == "win32", reason="no signals and limits there")
linux = pytest.mark.skipif(sys.platform != "linux", reason="memory is limited on Linux only")


@pytest.fixture
def child():
    with ChildProcess() as started:
        yield started


def account(function, *arguments, **limits):
    """The reason and the words of a call that gets no answer."""
    with pytest.raises(ChildError) as caught:
        call_in_child(function, *arguments, **limits)
    return caught.value.reason, str(caught.value)


def test_plain_values_bytes_and_arrays_come_back(child):
    value = [None, True, -3, 0.1, "ü\0", b"\xff\0", (1, ("a",)), {"a": {"b": [b"", ()]}}, float("inf")]
    assert child.call(functions.echo, value) == value
    for array in (np.arange(6, dtype=">i2").reshape(2, 3), np.float32([]), np.array(2.5), np.zeros((3, 0), bool)):
        again = child.call(functions.echo, array)
        assert (again.dtype, again.shape, again.flags.writeable) == (array.dtype, array.shape, True)
        np.testing.assert_array_equal(again, array)
    big = np.random.default_rng(0).integers(0, 256, 5_000_000, dtype=np.uint8)
    np.testing.assert_array_equal(child.call(functions.echo, big.tobytes(), big)[1], big)


@pytest.mark.parametrize("value", [{1, 2}, object(), np.array([None]), np.array(["a"]), {3: 4}, {"\0array": 1}, 1j])
def test_other_values_are_refused_and_the_child_lives(child, value):
    with pytest.raises((TypeError, ValueError)):
        child.call(functions.echo, value)
    assert child.call(functions.echo, 1) == 1


def test_calls_share_a_process_and_what_it_keeps(child):
    assert child.call(functions.keep, "a") == ["a"]
    assert child.call(functions.keep, "b") == ["a", "b"]
    assert call_in_child(functions.keep, "c") == ["c"]


def test_modules_come_from_where_they_come_from_here(child, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "json.py").write_text("raise SystemExit('a module of the current folder')")
    monkeypatch.syspath_prepend(tmp_path / "new\nline")
    assert call_in_child(functions.where) == (str(tmp_path), sys.path)


def test_numpy_is_not_imported_for_what_needs_none(child):
    assert child.call(functions.loaded, "numpy", "json") == ["json"]


def test_what_is_printed_disturbs_no_answer(child):
    assert child.call(functions.talk, 7) == 7
    assert child.call(functions.talk, b"8") == b"8"


def test_errors_of_this_package_are_raised_as_they_are(child):
    with pytest.raises(InputError, match=r"^a\.tflite: damaged$"):
        child.call(functions.refuse, "input")
    with pytest.raises(MissingExtraError, match="onnxruntime") as missing:
        child.call(functions.refuse, "extra")
    assert (missing.value.extra, missing.value.package) == ("onnx", "onnxruntime")
    with pytest.raises(UnknownNameError, match="onyx") as unknown:
        child.call(functions.refuse, "name")
    assert unknown.value.near == ["onnx"]
    assert child.call(functions.echo, 1) == 1  # it lives on


def test_other_exceptions_end_it_with_their_words():
    reason, words = account(functions.fail, "too small\x1b[31m")
    assert (reason, words) == (
        "exit", r"ended without an answer (exit code 1): RuntimeError: too small\x1b[31m",
    )  # fmt: skip
    assert account(functions.end, 3, "no licence\n") == (
        "exit", "ended without an answer (exit code 3): no licence",
    )  # fmt: skip


@unix
@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT", "SIGKILL"])
def test_a_crash_names_its_signal(name):
    assert account(functions.kill, name) == ("signal", f"crashed (signal {name}): free(): double free detected")


@unix
def test_a_signal_without_a_name():
    number = signal.SIGRTMIN + 3
    with ChildProcess() as child:
        timer = threading.Timer(0.5, os.kill, (child.pid, number))
        timer.start()
        with pytest.raises(ChildError, match=str(int(number))):
            child.call(functions.sleep, 60)


def test_a_time_limit():
    start = time.monotonic()
    assert account(functions.sleep, 60, seconds=1.5) == ("time limit", "gave no answer within 1.5 s")
    assert time.monotonic() - start < 30


@unix
def test_a_limit_on_processor_time_counts_from_the_call():
    with ChildProcess() as child:
        assert child.call(functions.limits, cpu_seconds=1)[1] >= 1
    assert account(functions.spin, cpu_seconds=1) == ("time limit", "took more than 1 s of processor time")


@linux
def test_a_memory_limit_counts_from_what_the_child_starts_with():
    size = 2**28
    assert call_in_child(functions.take, size, memory=2 * size) == size
    for function in (functions.take, functions.take_and_abort):
        assert account(function, 2 * size, memory=size) == ("memory limit", "needs more memory than 256 MiB")
    assert account(functions.kill, "SIGSEGV", memory=size)[1].startswith("crashed (signal SIGSEGV; it may use 256 MiB)")
    _, _, core = call_in_child(functions.limits, memory=size)
    assert core == 0


@linux
def test_a_lower_limit_of_the_system_stays(child):
    first = child.call(functions.limits, memory=2**28, cpu_seconds=5)
    assert child.call(functions.limits, memory=2**40, cpu_seconds=500)[0] == first[0]


@unix
def test_a_closed_child_takes_no_calls_and_leaves_nothing():
    before = threading.active_count()
    with ChildProcess() as child:
        with pytest.raises(ChildError):
            child.call(functions.kill, "SIGSEGV")
        assert child.closed
        with pytest.raises(ValueError, match="closed"):
            child.call(functions.echo, 1)
    assert threading.active_count() == before


@unix
def test_a_process_that_the_child_leaves_behind_is_not_waited_for():
    start = time.monotonic()
    assert account(functions.leave_a_grandchild, seconds=2)[0] == "time limit"
    assert time.monotonic() - start < 20


@unix
@pytest.mark.parametrize(
    "data",
    [
        b"\xff" * 12,
        b"\2\0\0\0" + bytes(8) + b"[]",
        b"\2\0\0\0" + bytes(8) + b"]]",
        b"\x17\0\0\0" + bytes(8) + rb'{"\u0000bytes": [0, 9]}',
        b"\x1e\0\0\0" + bytes(8) + rb'{"\u0000array": [0, "|O", [0]]}'[:30],
        b"\0\0\1\0" + bytes(8) + b"[" * 2**16,
        b"\x1b\0\0\0" + bytes(8) + b'["error", ["Path", "x", 1]]',
    ],
)
def test_a_child_that_was_taken_over_is_not_believed(data):
    assert account(functions.say, data, seconds=30)[0] == "unreadable"


def test_where_no_process_can_be_started(monkeypatch):
    monkeypatch.setattr(sys, "executable", "")
    assert account(functions.echo, 1)[0] == "not started"
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    assert account(functions.echo, 1)[0] == "not started"
