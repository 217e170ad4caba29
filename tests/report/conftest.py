"""An export on a few pictures, whose report the tests of this folder read."""

import pytest
from export_models import LABELS, small_model, write_labelled, write_pictures

from mbn_deploy.pipeline.export import export_model


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    return {
        "calibrate": write_pictures(root / "calibration"),
        "evaluate": write_labelled(root / "validation"),
        "labels": LABELS,
    }


@pytest.fixture(scope="module")
def result(images, tmp_path_factory):
    """An export whose guard let a recipe pass."""
    return export_model(small_model(), tmp_path_factory.mktemp("out") / "my dist", **images, max_drop=99.0)


@pytest.fixture(scope="module")
def made(result):
    """Its bundle."""
    return result.bundle
