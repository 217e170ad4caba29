"""Exit codes, and the guard around every command that turns exceptions into them."""

from __future__ import annotations

import functools
import os
import sys
import traceback
from collections.abc import Callable
from typing import ParamSpec

import typer

from mbn_deploy.cli.output import print_error
from mbn_deploy.errors import MbnError

P = ParamSpec("P")

BUG = 1
INPUT = 3
INTERRUPTED = 130  # 128 + SIGINT, as shells report it
BROKEN_PIPE = 141  # 128 + SIGPIPE, as shells report a program that writes to a closed pipe


def guarded(command: Callable[P, None]) -> Callable[P, None]:
    """Wrap `command` so that an exception becomes a line on stderr and an exit code (see `mbn_deploy.errors`)."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
            sys.stdout.flush()  # so that a closed pipe shows here, and not when the interpreter ends
        except (typer.Exit, typer.Abort):
            raise
        except KeyboardInterrupt:
            print_error("interrupted")
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the interpreter flushes what is still buffered to there
            raise typer.Exit(BROKEN_PIPE) from None
        except MbnError as error:
            print_error(f"error: {error}")
            raise typer.Exit(error.exit_code) from None
        except OSError as error:
            _exit_for_system_error(error)
        except Exception:  # noqa: BLE001 (the last border: every other exception is a bug of this program)
            _exit_for_bug()

    return run


def close_stdout(code: int) -> int:
    """Write what is still buffered for stdout; return the exit code, which is not 0 if that fails."""
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the interpreter flushes what is still buffered to there
        if isinstance(error, BrokenPipeError):
            return BROKEN_PIPE
        print_error(f"error: stdout: {error.strerror}")
        return code or INPUT
    return code


def _exit_for_system_error(error: OSError) -> None:
    """Report a full disk, a missing permission or a broken device; an `OSError` without a number is a bug."""
    if error.errno is None:
        _exit_for_bug()
    where = f"{error.filename}: " if error.filename is not None else ""
    print_error(f"error: {where}{error.strerror}")
    raise typer.Exit(INPUT) from None


def _exit_for_bug() -> None:
    sys.stderr.write(traceback.format_exc())
    print_error("error: this is a bug in mbn-deploy, please report it with the lines above")
    raise typer.Exit(BUG) from None
