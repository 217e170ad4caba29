"""Build small Keras models, and compare their graphs with them."""

import numpy as np
from graph_reference import run_graph

from mbn_deploy.export.from_keras.convert import graph_from_keras

RNG = np.random.default_rng(5)


def disturbed(model):
    """Set BatchNorm and biases away from 0 and 1, so that nothing is an identity."""
    model.set_weights(
        [w * RNG.uniform(0.5, 1.5, w.shape) + RNG.uniform(-0.1, 0.2, w.shape) for w in model.get_weights()]
    )
    return model


def pictures(model, n=2, size=None):
    height, width, channels = (size or side for side in model.input_shape[1:])
    return RNG.uniform(0, 255, (n, height, width, channels)).astype(np.float32)


def agree(model, x=None, atol=1e-5, **options):
    """Return the graph of `model`, after comparing its result with that of Keras."""
    x = pictures(model) if x is None else x
    found = graph_from_keras(model, batch=len(x), **options)
    inner = x.astype(np.float64)
    if found.input_affine is not None:
        inner = found.input_affine.apply(inner)
    result = run_graph(found.graph, inner)[found.graph.output]
    expected = np.asarray(model(x, training=False))
    assert expected.shape[1:] == result.shape[1:]
    scale = max(1.0, np.abs(expected).max())
    assert np.ptp(expected) > 1e-4 * scale, "the model gives the same for everything, so nothing is tested"
    np.testing.assert_allclose(result, expected, atol=atol * scale)
    return found


def model_of(*layers, size=(9, 8, 3), dtype="float32"):
    """Build a functional model from a chain of layers or functions of tensors."""
    import keras

    x = inputs = keras.Input(size, dtype=dtype)
    for layer in layers:
        x = layer(x)
    return disturbed(keras.Model(inputs, x))


def layer_classes():
    import keras

    return keras.layers
