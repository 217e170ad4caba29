"""Load the server: many clients with good, bad, huge, slow and broken uploads at once.

    python robustness/serve_load.py [BUNDLE|FILE] [--clients 32] [--requests 3000] [--json] [-- OPTIONS OF SERVE]

Every good picture must get exactly the answer of `Classifier.classify` in this process (a 503 is tried again after
the seconds that it names), everything else its own refusal. Printed are counts, times of the good ones as a client
sees them (all of this machine's processors are shared by clients and server), and the server's memory: resident when
it was ready, after half of the requests and at the end, and the peak.

The exit code is 1 if an answer was wrong or missing, the server did not end by itself when told to, memory grew by
more than SETTLED between the halves, or the peak is beyond what the limits allow (BOUND).
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import io
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mbn_deploy.runtime import Classifier
from mbn_deploy.serve.limits import Limits

DEFAULT = Path(__file__).parents[2] / "shared/models/published/mobilenet_v1_0.25_128_quant.tflite"
UPLOAD, PIXELS, SECONDS = 1_000_000, 4_000_000, 2.0  # the server's limits here
WORKERS = min(4, os.cpu_count() or 1)
# Bytes: all that may be buffered, twice (as it came, and as the decoder reads it), and for each worker a picture of
# the most pixels that is no JPEG (see `Limits.pixels`).
BOUND = 2 * Limits.buffered_bytes + WORKERS * 24 * PIXELS // 4
SETTLED = 24_000_000
START = "from mbn_deploy.cli.main import main; main()"
PATIENCE = 120  # seconds for one answer; more is none


@dataclass
class Tally:
    """The answers that came back, shared by the clients."""

    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, kind: str, *, wrong: str | None = None, seconds: float | None = None) -> None:
        """Count one request of a kind."""
        with self.lock:
            self.counts[kind] += 1
            if wrong is not None:
                self.wrong.append(f"{kind}: {wrong}")
            if seconds is not None:
                self.seconds.append(seconds)


@dataclass(frozen=True)
class Picture:
    """A good upload and its answer."""

    data: bytes
    answer: list[tuple[int, str, float]]


def main() -> int:
    """Run the load, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", type=Path, default=DEFAULT)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--requests", type=int, default=3000)
    parser.add_argument("--labels", type=Path)
    parser.add_argument("--resize", default="squash")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if not options.file.exists():
        print(f"skipped: {options.file} is not there", file=sys.stderr)
        return 0
    with Classifier.open(options.file, labels=options.labels, resize=options.resize, threads=1) as classifier:
        pictures = good_pictures(classifier)
    result = run(options, pictures)
    print(json.dumps(result, indent=2) if options.json else table(result))
    for line in result["examples_of_wrong"]:
        print(f"wrong: {line}", file=sys.stderr)
    return 0 if result["passed"] else 1


def good_pictures(classifier: Classifier) -> list[Picture]:
    """Make pictures of several formats and sizes, up to nearly the largest allowed."""
    rng = np.random.default_rng(1)
    sizes = [(64, 48), (300, 200), (640, 480), (1920, 1080), (2300, 1700)]
    found = []
    for index, (width, height) in enumerate(sizes * 4):
        small = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
        image, made = small.resize((width, height), Image.Resampling.BICUBIC), io.BytesIO()
        if index % 4 == 3 and width < 1000:
            image.convert("RGBA").save(made, "PNG")
        else:
            image.save(made, "JPEG", quality=85)
        answer = [(p.index, p.label, p.score) for p in classifier.classify(made.getvalue())]
        found.append(Picture(made.getvalue(), answer))
    return found


def run(options: argparse.Namespace, pictures: list[Picture]) -> dict[str, Any]:
    """Start the server, run the clients twice, and stop it."""
    words = [sys.executable, "-c", START, "serve", options.file, "--resize", options.resize, "--threads", 1]
    words += ["--port", 0, "--json", "--max-upload", UPLOAD / 1e6, "--max-pixels", PIXELS / 1e6]
    words += ["--upload-timeout", SECONDS] + ([] if options.labels is None else ["--labels", options.labels])

    with subprocess.Popen(list(map(str, words)), stdout=subprocess.PIPE, text=True) as server:
        try:
            port = json.loads(server.stdout.readline())["port"]  # type: ignore[union-attr]
            tally, memory = Tally(), {"ready": resident(server.pid)}
            begun = time.perf_counter()
            for half in ("half", "end"):
                load(port, pictures, options.clients, options.requests // 2, tally)
                memory[half] = resident(server.pid)
            took = time.perf_counter() - begun
            memory["peak"] = resident(server.pid, "VmHWM")
            server.terminate()
            code = server.wait(60)
        finally:
            server.kill()
    return report(options, tally, memory, took, code)


def report(options: argparse.Namespace, tally: Tally, memory: dict[str, int], took: float, code: int) -> dict[str, Any]:
    """Return all figures, and whether the bounds hold."""
    grown, peak = memory["end"] - memory["half"], memory["peak"] - memory["ready"]
    cuts = statistics.quantiles(tally.seconds, n=100) if len(tally.seconds) > 1 else [0.0] * 99
    return {
        "file": options.file.name,
        "clients": options.clients,
        "requests": dict(sorted(tally.counts.items())),
        "wrong": len(tally.wrong),
        "examples_of_wrong": tally.wrong[:10],
        "seconds": round(took, 1),
        "good_ms": {"p50": round(cuts[49] * 1e3, 1), "p90": round(cuts[89] * 1e3, 1), "p99": round(cuts[98] * 1e3, 1)},
        "memory_mb": {name: round(value / 1e6, 1) for name, value in memory.items()},
        "bounds_mb": {"peak": round(BOUND / 1e6, 1), "second_half": round(SETTLED / 1e6, 1)},
        "exit_code": code,
        "passed": not tally.wrong and code == 0 and grown <= SETTLED and peak <= BOUND,
    }


def table(result: dict[str, Any]) -> str:
    """For a person."""
    lines = [f"{result['file']}, {result['clients']} clients, {result['seconds']} s"]
    lines += [f"  {kind:16} {count:6}" for kind, count in result["requests"].items()]
    lines.append(f"  {'wrong':16} {result['wrong']:6}")
    lines.append("good, ms: " + ", ".join(f"{name} {value}" for name, value in result["good_ms"].items()))
    lines.append("memory, MB: " + ", ".join(f"{name} {value}" for name, value in result["memory_mb"].items()))
    lines.append(f"bounds, MB: {result['bounds_mb']}; exit code {result['exit_code']}")
    return "\n".join([*lines, "passed" if result["passed"] else "FAILED"])


def resident(pid: int, what: str = "VmRSS") -> int:
    """Bytes, as Linux counts them (proc(5))."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{what}:"))


# ---- clients


def load(port: int, pictures: list[Picture], clients: int, requests: int, tally: Tally) -> None:
    """All requests, by so many clients at a time."""
    kinds = [kind for kind, _, weight in KINDS for _ in range(weight)]
    order = random.Random(requests)  # noqa: S311 - the same mixture each time
    todo = [(order.choice(kinds), order.choice(pictures)) for _ in range(requests)]
    lock = threading.Lock()

    def work() -> None:
        while True:
            with lock:
                if not todo:
                    return
                kind, picture = todo.pop()
            try:
                ACTIONS[kind](port, picture, tally)
            except (OSError, http.client.HTTPException) as error:
                tally.add(kind, wrong=f"{type(error).__name__}: {error}")

    threads = [threading.Thread(target=work) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def post(port: int, body: Any) -> tuple[int, dict[str, Any], int]:
    """(status, JSON, Retry-After) of one request on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # refused while sending: there is an answer
            connection.request("POST", "/classify", body)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read()), int(answer.getheader("Retry-After", "0"))
    finally:
        connection.close()


def good(port: int, picture: Picture, tally: Tally) -> None:
    """Until it is answered: the Classifier's answer."""
    deadline = time.monotonic() + PATIENCE
    while True:
        start = time.perf_counter()
        status, said, retry = post(port, picture.data)
        if status != 503 or time.monotonic() > deadline:
            break
        tally.add("sent away (503)")
        time.sleep(retry * random.uniform(0.2, 1))  # noqa: S311 - so that they don't come back together
    if status != 200:
        tally.add("good", wrong=f"{status} {said}")
        return
    found = [(p["index"], p["label"], p["score"]) for p in said["predictions"]]
    wrong = None if found == picture.answer else f"{found} instead of {picture.answer}"
    tally.add("good", wrong=wrong, seconds=time.perf_counter() - start)


def refused(kind: str, expected: int, body: Callable[[Picture], Any]) -> Callable[[int, Picture, Tally], None]:
    """Return an action whose answer must be `expected`, or a refusal because the server is busy."""

    def act(port: int, picture: Picture, tally: Tally) -> None:
        status, said, _ = post(port, body(picture))
        tally.add(kind, wrong=None if status in (expected, 503) else f"{status} {said}")

    return act


def slow(port: int, picture: Picture, tally: Tally) -> None:
    """Send some bytes now and then, until the server closes the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client:
        client.sendall(b"POST /classify HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n")
        client.settimeout(0.2)
        deadline, answer = time.monotonic() + PATIENCE, b""
        while not answer and time.monotonic() < deadline:
            with contextlib.suppress(TimeoutError):
                client.sendall(picture.data[:10])
                answer = client.recv(1000)
        tally.add("slow", wrong=None if answer[9:12] in (b"408", b"503") else f"answered {answer[:50]!r}")


def broken(port: int, picture: Picture, tally: Tally) -> None:
    """Goes away in the middle of an upload."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client:
        head = f"POST /classify HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(picture.data)}\r\n\r\n"
        client.sendall(head.encode() + picture.data[: len(picture.data) // 2])
    tally.add("broken off")


def endless(_: Picture) -> Any:
    """Chunks without an announced length, far beyond the limit."""
    return (bytes(50_000) for _ in range(5 * UPLOAD // 50_000))


def many_pixels(_: Picture) -> bytes:
    """Few bytes, more pixels than are decoded."""
    made = io.BytesIO()
    Image.new("L", (2001, 2000)).save(made, "PNG")
    return made.getvalue()


# How often of 100, and what it does.
KINDS: list[tuple[str, Callable[[int, Picture, Tally], None], int]] = [
    ("good", good, 70),
    ("damaged", refused("damaged", 422, lambda picture: picture.data[: len(picture.data) // 3]), 8),
    ("no picture", refused("no picture", 422, lambda picture: bytes(reversed(picture.data))), 5),
    ("empty", refused("empty", 400, lambda _: b""), 2),
    ("huge", refused("huge", 413, lambda _: bytes(3 * UPLOAD)), 5),
    ("endless", refused("endless", 413, endless), 3),
    ("many pixels", refused("many pixels", 413, many_pixels), 3),
    ("slow", slow, 2),
    ("broken off", broken, 2),
]
ACTIONS = {kind: action for kind, action, _ in KINDS}

if __name__ == "__main__":
    sys.exit(main())
