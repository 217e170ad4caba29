"""The server's log: bounded lines on stderr, from a thread of its own, so that a full or closed pipe stops nothing."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from queue import Full, Queue

from mbn_deploy.text import visible

LINE_CHARACTERS = 500
FIRST_LINES, LAST_LINES = 4, 24  # of a traceback; what lies between is counted
QUEUED = 200  # messages that wait while nobody reads stderr; further ones are lost
FLUSH_SECONDS = 0.5


def bounded(text: str) -> str:
    """Shorten a message, and escape the characters that a terminal would hide or obey."""
    lines = text.splitlines()
    if len(lines) > FIRST_LINES + LAST_LINES:
        left_out = len(lines) - FIRST_LINES - LAST_LINES
        lines = [*lines[:FIRST_LINES], f"    ({left_out} lines left out)", *lines[-LAST_LINES:]]
    return "\n".join(_bounded_line(line) for line in lines)


def _bounded_line(line: str) -> str:
    line = visible(line)
    return line if len(line) <= LINE_CHARACTERS else f"{line[:LINE_CHARACTERS]} …"


class StderrLog(logging.Handler):
    """Writes `bounded` messages to stderr in a thread of its own, and drops them while nobody reads."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._waiting: Queue[str] = Queue(QUEUED)
        self._written = threading.Condition()
        threading.Thread(target=self._write, name="log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Hand a message to the thread."""
        try:
            text = bounded(self.format(record))
        except Exception:  # noqa: BLE001 (a message that cannot be formatted must not end a request)
            text = f"a message of {record.name} that cannot be shown"
        with suppress(Full):
            self._waiting.put_nowait(text)

    def flush(self) -> None:
        """Wait for a moment until all is written."""
        with self._written:
            self._written.wait_for(lambda: not self._waiting.unfinished_tasks, FLUSH_SECONDS)

    def _write(self) -> None:
        while True:
            text = self._waiting.get()
            with suppress(OSError, ValueError, AttributeError):  # closed, or no stderr at all
                os.write(sys.stderr.fileno(), f"{text}\n".encode(errors="backslashreplace"))
            with self._written:
                self._waiting.task_done()
                self._written.notify_all()


@contextmanager
def logging_to_stderr() -> Iterator[None]:
    """Log to stderr as `StderrLog` does, Python's warnings and errors of threads included."""
    handler, root = StderrLog(), logging.getLogger()
    before = threading.excepthook
    root.addHandler(handler)
    logging.captureWarnings(capture=True)
    threading.excepthook = _log_thread_error
    try:
        yield
    finally:
        threading.excepthook = before
        logging.captureWarnings(capture=False)
        handler.flush()
        root.removeHandler(handler)


def _log_thread_error(error: threading.ExceptHookArgs) -> None:
    if error.exc_value is not None:
        name = error.thread.name if error.thread is not None else "a thread"
        logging.getLogger(__name__).error("error in %s", name, exc_info=error.exc_value)
