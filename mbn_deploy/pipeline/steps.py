"""The steps of a long job: how long each takes, and which one goes on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from mbn_deploy.progress import Progress


class StepTimer:
    """Measures the seconds of each step, and tells `progress` when a step begins and ends."""

    def __init__(self, progress: Progress) -> None:
        self.seconds: dict[str, float] = {}
        self.progress = progress

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Measure the block as step `name`; the seconds of blocks of the same name are added up."""
        self.progress(name, 0, 1)
        start = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
        self.progress(name, 1, 1)
