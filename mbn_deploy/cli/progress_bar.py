"""Progress bars on stderr, and what interpreters print to stderr by themselves."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, TextIO

from mbn_deploy.cli.output import PipeConsole, plain, stderr
from mbn_deploy.errors import MissingExtraError
from mbn_deploy.progress import Progress, silent

if TYPE_CHECKING:
    from rich.progress import TaskID

# LiteRT prints this line once a process, from C++, and has no setting for it. Everything else it prints is shown.
_STARTUP_MESSAGES = frozenset({b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\n"})


@contextmanager
def progress_bar(prefix: str = "", *, still: bool = False) -> Iterator[Progress]:
    """Show a bar for each step on stderr during the block; show nothing where stderr is no terminal.

    Args:
        prefix: text before the name of each step.
        still: redraw only when progress is reported, so that no thread runs beside a measurement.

    Yields:
        The callback that work reports its progress to.

    """
    if not stderr().is_terminal:
        with hide_startup_messages():
            yield silent
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    # What interpreters print meanwhile would tear the bars: it is shown when they are gone.
    with (
        _stderr_held_back() as screen,
        Bars(*columns, console=PipeConsole(file=screen), transient=True, auto_refresh=not still) as bars,
    ):
        tasks: dict[str, TaskID] = {}

        def update(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = bars.add_task(plain(prefix + step), total=total)
            bars.update(tasks[step], completed=done, total=total, refresh=still)

        yield update


def load_frameworks() -> None:
    """Import Keras and TensorFlow without their startup messages.

    TensorFlow's C++ parts print them before any setting is read (tensorflow#100442), so only holding back the
    process's own stderr helps. A missing framework is no error here: the function that needs it says what to install.
    """
    from mbn_deploy.models.keras_backend import import_keras

    with suppress(MissingExtraError), _stderr_held_back(drop=True):
        import_keras("to read models")  # so that later imports are quiet


@contextmanager
def hide_startup_messages() -> Iterator[None]:
    """Hold back what is printed to stderr during the block, then print it without the interpreters' startup lines."""
    with _stderr_held_back():
        yield


@contextmanager
def _stderr_held_back(*, drop: bool = False) -> Iterator[TextIO]:
    """Keep what is written to stderr until the block ends, then write it without startup messages.

    With `drop`, it is written only if the block fails. Yields the real stderr.
    """
    sys.stderr.flush()
    with os.fdopen(os.dup(2), "w", encoding="utf-8", errors="backslashreplace") as real, _buffer_file() as buffer:
        os.dup2(buffer.fileno(), 2)
        try:
            yield real
        except BaseException:
            drop = False
            raise
        finally:
            sys.stderr.flush()
            with suppress(OSError):  # a full or closed stderr must not cost the answer on stdout
                real.flush()
            os.dup2(real.fileno(), 2)
            buffer.seek(0)
            with suppress(OSError):
                os.write(2, b"" if drop else b"".join(line for line in buffer if line not in _STARTUP_MESSAGES))


def _buffer_file() -> IO[bytes]:
    """Return a file in memory where the system has such: boards run read-only, and disks fill up."""
    try:
        return os.fdopen(os.memfd_create("mbn-deploy"), "w+b")
    except (AttributeError, OSError):
        return TemporaryFile()
