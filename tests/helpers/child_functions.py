"""Functions that tests call in child processes: each answers, fails, crashes or grows in a way of its own."""

import atexit
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

from mbn_deploy.errors import InputError, MissingExtraError, UnknownNameError

kept = []


def echo(*values):
    """Return what came."""
    return values[0] if len(values) == 1 else values


def keep(value):
    """Remember a value for later calls; return all of them."""
    kept.append(value)
    return kept


def loaded(*modules):
    """Return which of these modules are imported."""
    return [name for name in modules if name in sys.modules]


def where():
    """Return the current folder, the places of modules, and the arguments."""
    return str(Path.cwd()), sys.path


def talk(answer):
    """Print on all streams, then answer."""
    sys.stdout.write("to stdout\n")
    sys.stdout.flush()
    os.write(1, b"to descriptor 1\n")
    os.write(2, bytes(2**20))
    return answer


def end(code, words):
    """End the process from within."""
    sys.stderr.write(words)
    sys.exit(code)


def crash_at_the_end():
    """Answer, and crash when the process ends."""
    atexit.register(os.abort)
    return "fine"


def fail(words):
    """Raise what nobody expects."""
    raise RuntimeError(words)


def refuse(kind):
    """Raise an error of the package."""
    raise {
        "input": InputError("a.tflite: damaged"),
        "extra": MissingExtraError("onnxruntime", "onnx", "to run"),
        "name": UnknownNameError("backend", "onyx", ["onnx", "litert"]),
    }[kind]


def kill(name):
    """End the process by a signal."""
    os.write(2, b"free(): double free detected\n")
    os.kill(os.getpid(), getattr(signal, name))
    time.sleep(60)


def sleep(seconds):
    """Wait without using the processor."""
    time.sleep(seconds)


def spin():
    """Use the processor without end."""
    while True:
        pass


def take(size):
    """Take so many bytes of memory."""
    return len(bytearray(size))


def take_and_abort(size):
    """Take memory as C++ does: the process aborts where it gets none."""
    try:
        return take(size)
    except MemoryError:
        os.write(2, b"terminate called after throwing an instance of 'std::bad_alloc'\n")
        os.abort()


def limits():
    """Return the limits of this process: address space, processor time, core files."""
    import resource

    return [resource.getrlimit(n)[0] for n in (resource.RLIMIT_AS, resource.RLIMIT_CPU, resource.RLIMIT_CORE)]


def leave_a_grandchild():
    """Leave a process behind that holds the streams, and crash."""
    if os.fork() == 0:
        time.sleep(30)
        os._exit(0)
    os.abort()


def say(data):
    """Answer with these bytes instead of a message."""
    for descriptor in range(3, 20):  # one of them is the stream of answers
        with suppress(OSError):
            os.write(descriptor, data)
    time.sleep(60)


def run_but_abort_on_b(name, *rest):
    """Run an exported file, as the export does, but crash on one."""
    from mbn_deploy.verify.interpreter_process import run_file

    if name == "b.tflite":
        os.abort()
    return run_file(name, *rest)
