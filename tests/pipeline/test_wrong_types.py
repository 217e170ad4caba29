"""Wrong types given to the workstation's public functions are wrong use, and named."""

from contextlib import suppress

import numpy as np
import pytest

from mbn_deploy import Bundle, build, export_model
from mbn_deploy.errors import MbnError, UsageError
from mbn_deploy.pipeline.option_fields import options_of
from mbn_deploy.pipeline.options import ExportOptions
from mbn_deploy.verify.bundle_check import verify_bundle
from mbn_deploy.verify.files import evaluate_files

OPTIONS = {each.name: each for each in options_of(ExportOptions)}
ODD = (object(), -1, 1.5, [1], {1: 2}, b"x", (1.5, 2), float("nan"), {1, 2}, 10**30, np.zeros(2))


@pytest.mark.parametrize("name", OPTIONS)
def test_no_value_of_an_option_is_a_bug(name):
    """Whatever it is, it is taken or refused; an object of no type is refused by the option's name."""
    for value in ODD:
        with suppress(MbnError):
            ExportOptions(**{"precisions": ["float32"], name: value})
    with pytest.raises(UsageError, match=name):
        ExportOptions(**{"precisions": ["float32"], name: object()})


def test_numpys_numbers_are_numbers():
    options = ExportOptions(precisions=["float32"], batch=np.int64(2), threshold=np.float32(0.25), size=[32, 48])
    assert (options.batch, options.threshold) == (2, 0.25)


@pytest.mark.parametrize(
    ("given", "named"),
    [({"name": 5}, "name"), ({"alpha": "1"}, "alpha"), ({"size": "224"}, "size"), ({"size": 224.0}, "size"),
     ({"classes": None}, "classes"), ({"weights": 5}, "weights"), ({"dropout": "x"}, "dropout"),
     ({"classes": 10**12}, "classes")],
)  # fmt: skip
def test_build(given, named):
    with pytest.raises(UsageError, match=named):
        build(**{"name": "mobilenet_v1", **given})


@pytest.mark.parametrize("call", [Bundle.read, verify_bundle, lambda path: evaluate_files(path, "data")])
@pytest.mark.parametrize("path", [None, 5, b"dist", ["dist"]])
def test_paths(call, path):
    with pytest.raises(UsageError, match="str or a Path"):
        call(path)


@pytest.mark.parametrize("model", [None, 5, ["m.keras"], np.zeros(3)])
def test_models(model, tmp_path):
    with pytest.raises(UsageError, match="model"):
        export_model(model, tmp_path / "dist", precisions=["float32"])
    with pytest.raises(UsageError, match="output"):
        export_model("m.keras", model, precisions=["float32"])
