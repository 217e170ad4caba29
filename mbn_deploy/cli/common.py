"""What every command shares: exit codes, printing that cannot be hijacked, progress on stderr."""

from __future__ import annotations

import functools
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Annotated, ParamSpec, TextIO

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from mbn_deploy.errors import MbnError, UsageError
from mbn_deploy.progress import Progress, silent
from mbn_deploy.text import visible

if TYPE_CHECKING:
    from rich.progress import TaskID

P = ParamSpec("P")

INTERRUPTED = 130  # 128 + SIGINT, as shells have it
BROKEN_PIPE = 141  # 128 + SIGPIPE: what `head` does to a program that writes on
BUG = 1
INPUT = 3

Json = Annotated[bool, typer.Option("--json", help="Print JSON to stdout; words and progress go to stderr.")]


class _Console(Console):
    """Rich's console ends the program by itself on a closed pipe; here the guard decides."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def stdout() -> Console:
    """For results. Neither markup nor emoji codes are read out of labels and file names."""
    return _Console(markup=False, emoji=False, highlight=False)


def stderr() -> Console:
    """For words and progress."""
    return _Console(stderr=True, markup=False, emoji=False, highlight=False)


def table(*columns: str, left: int = 1) -> Table:
    """A table that fits 80 columns: rules only around the head; `left` columns of names, then figures.

    Names are folded, never cut: they are there to be copied.
    """
    made = Table(box=box.SIMPLE_HEAD)
    made.show_edge, made.padding = False, (0, 1, 0, 0)
    for at, heading in enumerate(columns):
        made.add_column(heading, justify="left" if at < left else "right", overflow="fold", no_wrap=at >= left)
    return made


def say(text: str) -> None:
    """A line for a person, to stderr, not wrapped: paths and commands stay whole."""
    stderr().print(plain(text), soft_wrap=True)


def plain(text: str) -> str:
    """Return `text` as a terminal may show it: characters that cannot be seen are escaped, newlines stay."""
    return visible(text, keep="\n")


def print_json(value: object) -> None:
    """`value` to stdout, ASCII only, so that any terminal and any pipe takes it."""
    sys.stdout.write(json.dumps(value, indent=2, allow_nan=False) + "\n")


def guarded(command: Callable[P, None]) -> Callable[P, None]:
    """`command` whose exceptions become a line on stderr and an exit code (see `mbn_deploy.errors`)."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
            sys.stdout.flush()  # a closed pipe must show here, not when the interpreter ends
        except (typer.Exit, typer.Abort):
            raise
        except KeyboardInterrupt:
            complain("interrupted")
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is still buffered has nowhere to go
            raise typer.Exit(BROKEN_PIPE) from None
        except MbnError as error:
            complain(f"error: {error}")
            raise typer.Exit(error.exit_code) from None
        except OSError as error:
            _system_error(error)
        except Exception:  # noqa: BLE001 (the last border: everything else is a mistake of this program)
            _bug()

    return run


def _system_error(error: OSError) -> None:
    """The disk, a folder's permissions, a device: nothing this program did wrong."""
    if error.errno is None:
        _bug()
    where = f"{error.filename}: " if error.filename is not None else ""
    complain(f"error: {where}{error.strerror}")
    raise typer.Exit(INPUT) from None


def _bug() -> None:
    sys.stderr.write(traceback.format_exc())
    complain("error: this is a bug in mbn-deploy, please report it with the lines above")
    raise typer.Exit(BUG) from None


def complain(text: str) -> None:
    """A line to stderr, whatever is in it."""
    sys.stderr.write(plain(text) + "\n")


@contextmanager
def progress_bar(prefix: str = "", *, still: bool = False) -> Iterator[Progress]:
    """A bar a step on stderr while the work goes on, `prefix` before its name; silent where stderr is no terminal.

    A `still` one is drawn when it is told something, and at no other time: nothing runs beside what is measured.
    """
    if not stderr().is_terminal:
        with without_greetings():
            yield silent
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    # What interpreters say in between would tear the bars; it is shown when they are gone.
    with (
        _held_back() as screen,
        Bars(*columns, console=_Console(file=screen), transient=True, auto_refresh=not still) as bars,
    ):
        tasks: dict[str, TaskID] = {}

        def update(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = bars.add_task(plain(prefix + step), total=total)
            bars.update(tasks[step], completed=done, total=total, refresh=still)

        yield update


def load_frameworks() -> None:
    """Import Keras and what is under it, without TensorFlow's greetings.

    They are written by its C++ parts before any setting is read (tensorflow#100442), so nothing but
    the process's own stderr can hold them back. Whoever needs Keras says what to install.
    """
    with suppress(ImportError), _held_back(drop=True):
        import keras  # noqa: F401 (so that later imports are quiet)


@contextmanager
def without_greetings() -> Iterator[None]:
    """Keep what interpreters print to stderr until the block ends, and then leave out their greetings."""
    with _held_back():
        yield


# LiteRT says this once a process, from C++, whatever one asks of it. All else that is printed is shown.
_GREETINGS = frozenset({b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\n"})


@contextmanager
def _held_back(*, drop: bool = False) -> Iterator[TextIO]:
    """The real stderr, while everything else that is written to it is kept until the end, without greetings.

    With `drop` it is shown only if the block fails.
    """
    sys.stderr.flush()
    with os.fdopen(os.dup(2), "w", encoding="utf-8", errors="backslashreplace") as real, _memory() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield real
        except BaseException:
            drop = False
            raise
        finally:
            sys.stderr.flush()
            real.flush()
            os.dup2(real.fileno(), 2)
            held.seek(0)
            if not drop:
                os.write(2, b"".join(line for line in held if line not in _GREETINGS))


def _memory() -> IO[bytes]:
    """A file without a disk, where the system has such: boards are run read-only, and disks are full."""
    try:
        return os.fdopen(os.memfd_create("mbn-deploy"), "w+b")
    except (AttributeError, OSError):
        return TemporaryFile()


def comma_list(text: str, option: str) -> tuple[str, ...]:
    """`a,b` as ("a", "b"), without repetitions; raises `UsageError` that names `option` for an empty part."""
    parts = tuple(part.strip() for part in text.split(","))
    if not all(parts):
        raise UsageError(f"{option} {text!r}: names separated by commas are expected")
    return tuple(dict.fromkeys(parts))


def human_bytes(size: int) -> str:
    """`3.4 MB` (1 MB = 1e6 bytes), `812 kB`."""
    return f"{size / 1e6:.1f} MB" if size >= 1_000_000 else f"{size / 1e3:.0f} kB"


def millions(count: int) -> str:
    """Parameters or multiply-adds in millions, three digits."""
    return f"{count / 1e6:.2f} M" if count < 100_000_000 else f"{count / 1e6:.1f} M"
