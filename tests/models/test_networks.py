"""The networks: sizes against the papers, equality with keras.applications."""

import numpy as np
import pytest

from mbn_deploy.errors import UnknownNameError, UsageError
from mbn_deploy.models.analysis import separable_costs, totals
from mbn_deploy.models.layers import Spec, expand, make_divisible
from mbn_deploy.models.tables import NETWORKS, network

# Multiply-adds in millions as the papers print them (V1 table 4, V2 table 4, V3 tables 3 and 4).
PAPER_MACS = {"mobilenet_v1": 569, "mobilenet_v2": 300, "mobilenet_v3_large": 219, "mobilenet_v3_small": 56}


@pytest.mark.parametrize(("name", "millions"), PAPER_MACS.items())
def test_macs_match_the_paper(name, millions):
    _, macs = totals(Spec(network(name)))
    assert macs / 1e6 == pytest.approx(millions, rel=0.012)


@pytest.mark.parametrize("name", NETWORKS)
def test_separable_cost_follows_the_formula(name):
    for pair in separable_costs(Spec(network(name), alpha=0.75, size=161)):
        assert pair.measured == pytest.approx(pair.formula)


def test_unknown_model_names_the_near_ones():
    with pytest.raises(UnknownNameError, match="mobilenet_v2"):
        network("mobilenetv2")


@pytest.mark.parametrize("bad", [{"alpha": 0}, {"size": 31}, {"classes": 0}, {"dropout": 1.0}, {"alpha": 0.01}])
def test_bad_values_are_refused(bad):
    with pytest.raises(UsageError):
        Spec(network("mobilenet_v1"), **bad)


@pytest.mark.parametrize(("value", "expected"), [(8, 8), (12, 16), (11.2, 16), (3, 8), (33.6, 32)])
def test_make_divisible(value, expected):
    assert make_divisible(value) == expected


APPLICATIONS = {
    "mobilenet_v1": "MobileNet",
    "mobilenet_v2": "MobileNetV2",
    "mobilenet_v3_small": "MobileNetV3Small",
    "mobilenet_v3_large": "MobileNetV3Large",
}


@pytest.mark.parametrize(("alpha", "size", "classes"), [(1.0, 224, 1000), (0.35, 97, 7), (1.4, 64, 3)])
@pytest.mark.parametrize("name", NETWORKS)
def test_equal_to_keras_applications(name, alpha, size, classes, tmp_path):
    import keras

    from mbn_deploy.models.build import build_model

    minimalistic = {"minimalistic": True} if name.endswith("minimalistic") else {}
    reference = getattr(keras.applications, APPLICATIONS[name.removesuffix("_minimalistic")])(
        input_shape=(size, size, 3), alpha=alpha, weights=None, classes=classes, **minimalistic
    )
    rng = np.random.default_rng(0)
    reference.set_weights([_disturb(w, rng) for w in reference.get_weights()])
    reference.save_weights(tmp_path / "a.weights.h5")
    spec = Spec(network(name), alpha, size, classes)
    model = build_model(spec)
    model.load_weights(tmp_path / "a.weights.h5")
    images = rng.uniform(0, 255, (2, size, size, 3)).astype(np.float32)
    x = images if spec.network.rescaling else images / 127.5 - 1
    np.testing.assert_allclose(model(x), reference(x), atol=1e-5)
    assert model.count_params() == reference.count_params() == totals(spec)[0]
    assert [tuple(layer.shape) for layer in expand(spec)][-1] == model.output_shape[1:]


def _disturb(weight, rng):
    """BatchNorm vectors away from 0 and 1, so that a swapped pair shows."""
    return weight * rng.uniform(0.5, 1.5, weight.shape) + (
        rng.normal(0, 0.05, weight.shape) if weight.max() == 0 else 0
    )


def test_keras_own_names_are_known():
    assert network("MobileNetV2") is network("mobilenet_v2")
    assert network("MobileNetV3Small") is network("mobilenet_v3_small")
    with pytest.raises(UnknownNameError, match="MobileNetV3Large"):
        network("MobilenetV3Large")
