"""A report whose every word comes from a stranger."""

from dataclasses import replace

import numpy as np

from mbn_deploy.report.data import Example, Examples, Guess, Report
from mbn_deploy.report.examples import thumbnail
from mbn_deploy.verify.latency import Latency

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "katze & hund",
    "\u202egnikool",
    "a\nb\x1b[31m",
)


def hostile(made, recipes=()):
    """A report whose every word comes from a stranger."""
    guesses = tuple(Guess(label, "20.0 %") for label in HOSTILE)
    picture, size = thumbnail(np.zeros((20, 30, 3), np.uint8))
    shown = tuple(Example(name, name, guesses, guesses[::-1], False, picture, size) for name in HOSTILE)
    source = {**made.manifest.source, "about": {name: name for name in HOSTILE}}
    manifest = replace(made.manifest, model=HOSTILE[0], source={**source, "file": {"name": HOSTILE[1], "sha256": "0"}})
    metrics = {**manifest.metrics, "dataset": HOSTILE[1]}
    return Report(
        folder=HOSTILE[1],
        manifest=replace(manifest, metrics=metrics),
        machine=HOSTILE[0],
        latencies={f.path: Latency(0.9, 1.2) for f in made.files},
        recipes=recipes,
        max_drop=1.0,
        layers=(),
        examples=Examples("a_int8.tflite", 5, 5, shown, held_back=True),
        warnings=HOSTILE,
    )
