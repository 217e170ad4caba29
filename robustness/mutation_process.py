"""Processes forked from one that has imported TensorFlow: tests of a mutant, and which test reaches which line.

A mutant is given to its process through the import system; no file is ever changed, so that the checkout can be
worked in meanwhile. Processes that a test itself starts run the real code: such tests kill nothing.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
MEMORY = 12 << 30  # bytes of data: a mutant may ask for any array
TOO_LONG = "took too long"


class Ran(NamedTuple):
    """The end of a forked process: what it returned, or why it did not."""

    value: Any
    died: str | None
    seconds: float


def preload(modules: list[str]) -> None:
    """Import what every process needs; then nothing of it is paid again."""
    os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1")
    sys.path.insert(0, str(ROOT / "tests" / "helpers"))
    for module in modules:
        importlib.import_module(module)
    gc.freeze()  # so that no child touches, and so copies, all of TensorFlow


def in_fork(work: Callable[[Path], Any], limit: float) -> Ran:
    """Call `work(temporary folder)` in a forked process, killed with its children after `limit` seconds."""
    folder = Path(tempfile.mkdtemp(prefix="mutation-"))
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        _work(work, folder)
    try:
        died = _wait(child, started + limit)
        seconds = time.monotonic() - started
        answer = folder / "answer.json"
        return Ran(json.loads(answer.read_text()) if died is None else None, died, seconds)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)


def _work(work: Callable[[Path], Any], folder: Path) -> None:
    code = 1
    try:
        os.setpgid(0, 0)
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        null = os.open(os.devnull, os.O_RDWR)
        log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT)
        for stream, to in enumerate((null, log, log)):
            os.dup2(to, stream)
        (folder / "answer.json").write_text(json.dumps(work(folder)))
        code = 0
    except BaseException:  # noqa: BLE001 - a fork must not return into the parent's frames
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _wait(child: int, until: float) -> str | None:
    """Why the process died; None if it did its work."""
    while time.monotonic() < until:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            return None if code == 0 else f"signal {-code}" if code < 0 else f"exit code {code}"
        time.sleep(0.01)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return TOO_LONG


class _Mutated(importlib.machinery.SourceFileLoader):
    """Loads other source than what the file holds."""

    source = ""

    def get_code(self, fullname: str) -> CodeType:  # noqa: ARG002 - the loader's interface
        return compile(self.source, self.path, "exec")


class _Finder(importlib.abc.MetaPathFinder):
    """Finds one module, with other source."""

    def __init__(self, path: str, source: str) -> None:
        self.name = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        self.loader = _Mutated(self.name, str(ROOT / path))
        self.loader.source = source

    def find_spec(
        self, name: str, path: object = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        del path, target
        return importlib.util.spec_from_file_location(name, loader=self.loader) if name == self.name else None


class _Chosen:
    """Runs these tests only, in this order; remembers the first that failed."""

    def __init__(self, tests: list[str]) -> None:
        self.places = {test: place for place, test in enumerate(tests)}
        self.failed: str | None = None

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = sorted(
            (item for item in items if item.nodeid in self.places), key=lambda item: self.places[item.nodeid]
        )

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and self.failed is None:
            self.failed = report.nodeid


def _pytest(plugin: object, files: list[str], folder: Path, *more: str) -> int:
    os.chdir(ROOT)
    quick = ["-q", "-p", "no:cacheprovider", "--assert=plain"]
    alike = ["--basetemp", str(folder / "tests"), "--hypothesis-seed=0"]
    return int(pytest.main([*quick, *alike, *more, *files], plugins=[plugin]))


def kill(path: str, source: str, tests: list[str], limit: float) -> Ran:
    """Run `tests` on `source` in the place of the module `path`; the value is the test that failed, or None."""

    def work(folder: Path) -> str | None:
        sys.meta_path.insert(0, _Finder(path, source))
        for file, chosen in _by_file(tests):  # one after the other: collecting costs more than most tests
            plugin = _Chosen(chosen)
            code = _pytest(plugin, [file], folder, "-x")
            if plugin.failed or code:
                return plugin.failed or f"pytest's exit code {code}"
        return None

    return in_fork(work, limit)


def _by_file(tests: list[str]) -> list[tuple[str, list[str]]]:
    """Group tests by file, in their order; the file of the first test comes first."""
    files: dict[str, list[str]] = {}
    for test in tests:
        files.setdefault(test.split("::")[0], []).append(test)
    return list(files.items())


class _Trace:
    """Which test reaches which line; what shared fixtures reach counts for every test that asks for them."""

    def __init__(self, modules: list[str]) -> None:
        import coverage

        self.coverage = coverage.Coverage(
            data_file=None, config_file=False, include=[str(ROOT / path) for path in modules]
        )
        self.seconds: dict[str, float] = {}
        self.shared: dict[str, list[str]] = {}
        self.failed: list[str] = []
        self.now = ""

    @contextlib.contextmanager
    def _context(self, name: str) -> Iterator[None]:
        before, self.now = self.now, name
        self.coverage.switch_context(name)
        started = time.process_time()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.process_time() - started
        self.now = before
        self.coverage.switch_context(before)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Function) -> Iterator[None]:
        self.shared[item.nodeid] = [f"fixture {name}" for name in item.fixturenames]
        with self._context(item.nodeid):
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Iterator[None]:
        if fixturedef.scope == "function":
            return (yield)
        with self._context(f"fixture {fixturedef.argname}"):
            return (yield)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed or report.skipped:
            self.failed.append(report.nodeid)

    def found(self) -> dict[str, Any]:
        """By test that passed: its seconds, with those of fixtures, and the lines of each module it reaches."""
        lines: dict[str, dict[str, set[int]]] = {}
        data = self.coverage.get_data()
        for path in data.measured_files():
            for line, contexts in data.contexts_by_lineno(path).items():
                for context in contexts:
                    lines.setdefault(context, {}).setdefault(str(Path(path).relative_to(ROOT)), set()).add(line)
        tests: dict[str, Any] = {}
        for test in self.shared.keys() - set(self.failed):
            reached: dict[str, set[int]] = {}
            for context in (test, *self.shared[test]):
                for path, numbers in lines.get(context, {}).items():
                    reached.setdefault(path, set()).update(numbers)
            seconds = sum(self.seconds.get(context, 0.0) for context in (test, *self.shared[test]))
            tests[test] = {"seconds": seconds, "lines": {path: sorted(found) for path, found in reached.items()}}
        return tests


def trace(modules: list[str], files: list[str], limit: float) -> Ran:
    """Run the test files once; the value is `_Trace.found`."""

    def work(folder: Path) -> dict[str, Any]:
        plugin = _Trace(modules)
        plugin.coverage.start()
        _pytest(plugin, files, folder, "-m", "not slow and not shared")
        plugin.coverage.stop()
        shutil.copy(folder / "log", ROOT / "build" / "mutation" / "trace.log")
        return plugin.found()

    return in_fork(work, limit)
