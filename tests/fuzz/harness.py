"""What the targets beside it share: coverage-guided fuzzing (atheris, libFuzzer) of the project's own parsers.

    python tests/fuzz/TARGET.py [SECONDS]

A target gets bytes; everything but the package's own errors is a finding: it is printed, its bytes are kept in the
folder of temporary files, and the process ends with another code than 0.
"""

import os
import resource
import sys
import tempfile
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

SECONDS = 60
MEMORY = 2048  # MiB
MISSING = 4


@contextmanager
def instrumented():
    """Imports of the package inside the block are measured."""
    try:
        import atheris
    except ImportError:
        sys.stderr.write("atheris is needed: pip install --group fuzz (CPython 3.11 or later, x86-64 Linux)\n")
        raise SystemExit(MISSING) from None
    with atheris.instrument_imports(include=["mbn_deploy"]):
        yield


def probe(name):
    """A tiny model that ships with the package."""
    return (resources.files("mbn_deploy.runtime.doctor") / "probes" / name).read_bytes()


def _peak():
    """What libFuzzer holds against its limit, so far: a new process begins with that of the one that started it."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


def fuzz(target, seeds, longest=1 << 16):
    """Call `target` with what grows out of `seeds` until the time of the command line is over."""
    import atheris

    from mbn_deploy.errors import MbnError

    def guarded(data):
        try:
            target(data)
        except MbnError:
            pass

    seconds = sys.argv[1] if len(sys.argv) > 1 else SECONDS
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(seeds):
            (Path(corpus) / str(number)).write_bytes(seed)
        kept = os.path.join(tempfile.gettempdir(), f"mbn-fuzz-{Path(sys.argv[0]).stem}-")
        options = [
            "-timeout=30",
            f"-rss_limit_mb={_peak() + MEMORY}",
            "-print_final_stats=1",
            f"-artifact_prefix={kept}",
        ]
        atheris.Setup([sys.argv[0], corpus, f"-max_total_time={seconds}", f"-max_len={longest}", *options], guarded)
        atheris.Fuzz()
