"""A report whose every word comes from a stranger."""

from dataclasses import replace

import numpy as np
import pytest
from export_models import LABELS, small_model, write_labelled, write_pictures

from mbn_deploy.pipeline.export import export
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


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    return {
        "calibration": write_pictures(root / "calibration"),
        "evaluate": write_labelled(root / "validation"),
        "labels": LABELS,
    }


@pytest.fixture(scope="module")
def made(images, tmp_path_factory):
    """A bundle whose guard let a recipe pass."""
    return export(small_model(), tmp_path_factory.mktemp("out") / "my dist", **images, max_drop=99.0)


def hostile(made):
    """A report whose every word comes from a stranger."""
    guesses = tuple(Guess(label, 0.2) for label in HOSTILE)
    picture, size = thumbnail(np.zeros((20, 30, 3), np.uint8))
    shown = tuple(Example(name, name, guesses, guesses[::-1], False, picture, size) for name in HOSTILE)
    source = {**made.manifest.source, "about": {name: name for name in HOSTILE}}
    manifest = replace(made.manifest, model=HOSTILE[0], source={**source, "file": {"name": HOSTILE[1], "sha256": "0"}})
    metrics = {**manifest.metrics, "dataset": HOSTILE[1]}
    return Report(
        folder=HOSTILE[1], manifest=replace(manifest, metrics=metrics), machine=HOSTILE[0],
        latencies={f.path: Latency(0.9, 1.2) for f in made.files}, rungs=made.rungs, max_drop=1.0, layers=(),
        examples=Examples("a_int8.tflite", 5, 5, shown, held_back=True), warnings=HOSTILE,
    )  # fmt: skip
