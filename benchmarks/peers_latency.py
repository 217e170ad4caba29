"""Milliseconds of one inference, many files in several engines, in turns; `peers.py latency` calls `measured`.

Engines do not share a process: each has children of its own, one a number of threads, which wait while another one
computes. A round is a few runs of every file in every child; the first run of each turn finds the caches full of
other files and does not count. With one thread, CPU time of the process is what is taken, so that other programs on
the machine do not count; with more, it is the clock.

As a program it is such a child: `peers_latency.py ENGINE THREADS FILES.json [--without-amx]` reads lines of
`NUMBER RUNS` and answers with a JSON list of milliseconds, or with an error.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from peers_engines import Engine, open_engine
from peers_routes import Figures
from quantization_latency import refuse_tiles

RUNS, WARM_UP = 6, 1
PAUSE = 0.01  # seconds: ONNX Runtime's threads look for more work that long after they have done theirs
Key = tuple[str, str, int, str]  # file, engine, threads, mode


class Child:
    """A process with the opened files; it is started again where a file ends it."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = list(command)
        self._process = self._started()

    def _started(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def run(self, number: int, runs: int) -> list[float] | str:
        """Milliseconds of every run, or the error."""
        pipes = self._process
        assert pipes.stdin is not None  # noqa: S101 - both are pipes, see above
        assert pipes.stdout is not None  # noqa: S101
        pipes.stdin.write(f"{number} {runs}\n")
        pipes.stdin.flush()
        for line in pipes.stdout:
            if line.startswith(MARK):  # interpreters print, too
                answer: list[float] | str = json.loads(line.removeprefix(MARK))
                return answer
        code = pipes.wait()
        self._process = self._started()
        return f"the process ended with {code}"

    def end(self) -> None:
        """Close its input, which ends it."""
        self._process.communicate()


MARK = "peers: "
Commands = Mapping[tuple[str, int, str], Sequence[str]]


def measured(commands: Commands, files: Mapping[str, Sequence[str]], rounds: int) -> dict[Key, Figures]:
    """Medians over rounds, with the 10 % and 90 % points of the rounds; or the error.

    `commands` start a child by (engine, threads, mode); `files` are the engines by file, in the order in which the
    children know them.
    """
    children = {key: Child(command) for key, command in commands.items()}
    found: dict[Key, list[float]] = {}
    errors: dict[Key, str] = {}
    try:
        for turn in range(WARM_UP + rounds):
            for number, (file, engines) in enumerate(files.items()):
                for (engine, threads, mode), child in children.items():
                    key = (file, engine, threads, mode)
                    if engine not in engines or key in errors:
                        continue
                    answer = child.run(number, RUNS)
                    if isinstance(answer, str):
                        errors[key] = answer
                    elif turn >= WARM_UP:
                        found.setdefault(key, []).append(float(np.median(answer[1:])))
                    time.sleep(PAUSE)
    finally:
        for child in children.values():
            child.end()
    return {key: _summary(times) for key, times in found.items() if key not in errors} | {
        key: {"error": error} for key, error in errors.items()
    }


def _summary(times: list[float]) -> Figures:
    low, middle, high = np.percentile(times, [10, 50, 90])
    return {"ms": round(float(middle), 4), "low": round(float(low), 4), "high": round(float(high), 4)}


def runs(engine: Engine, count: int, clock: Callable[[], float]) -> Iterator[float]:
    """Milliseconds one after another, on an image of mid-grey or zeros, whatever the type makes of it."""
    image = np.zeros(engine.input.shape, engine.input.dtype)
    for _ in range(count):
        start = clock()
        engine.run(image)
        yield 1e3 * (clock() - start)


def main() -> None:
    """Run as a child: answer lines of stdin."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine")
    parser.add_argument("threads", type=int)
    parser.add_argument("files", type=Path)
    parser.add_argument("--without-amx", action="store_true")
    options = parser.parse_args()
    if options.without_amx:
        refuse_tiles()
    files = json.loads(options.files.read_text("utf-8"))
    opened: dict[int, Engine] = {}
    clock = time.process_time if options.threads == 1 else time.perf_counter
    for line in sys.stdin:
        number, count = map(int, line.split())
        answer: Any
        try:
            if number not in opened:
                opened[number] = open_engine(options.engine, files[number], options.threads)
            answer = list(runs(opened[number], count, clock))
        except Exception as error:  # noqa: BLE001 - whatever an engine raises is what is written down
            answer = f"{type(error).__name__}: {error}"[:300]
        print(MARK + json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
