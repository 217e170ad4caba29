"""Small graphs, their calibration, and the demo's networks: what the tests of `quantize` work on."""

from functools import cache
from importlib import resources

import numpy as np
from graph_reference import run_graph

from mbn_deploy.demo.digits import shipped
from mbn_deploy.demo.networks import DEMO_SPECS, weights_name
from mbn_deploy.graph.execute import activated, run_op
from mbn_deploy.graph.graph import Graph, Op
from mbn_deploy.graph.quantized import QuantParams
from mbn_deploy.manifest import Preprocess
from mbn_deploy.quantize.calibration import CalibrationSet
from mbn_deploy.quantize.passes.bias import as_stored, real_weights
from mbn_deploy.quantize.ranges import CalibratedGraph, observe

INPUT_PARAMS = QuantParams(float(np.float32(1 / 127.5)), 0)


class Net:
    """A graph that grows by layers with random weights; each method returns the name of its output."""

    def __init__(self, shape=(1, 8, 8, 3), seed=0):
        self.rng = np.random.default_rng(seed)
        self.shapes, self.ops = {"x": shape}, []

    def op(self, kind, name, *sources, shape=None, **more):
        self.shapes[name] = shape or self.shapes[sources[0]]
        self.ops.append(Op(kind, name, sources, name, **more))
        return name

    def conv(self, name, source, outputs, size=1, *, activation="none", gain=1.0):
        n, height, width, inputs = self.shapes[source]
        kernel = gain * self.rng.normal(0, np.sqrt(2 / (size * size * inputs)), (size, size, inputs, outputs))
        return self._weighted(
            "conv", name, source, kernel=kernel, shape=(n, height, width, outputs), activation=activation, pad=size // 2
        )

    def depthwise(self, name, source, activation="none", size=3):
        kernel = self.rng.normal(0, 0.5, (size, size, self.shapes[source][-1], 1))
        return self._weighted(
            "depthwise", name, source, kernel=kernel, shape=self.shapes[source], activation=activation, pad=size // 2
        )

    def pool(self, name, source):
        n, _, _, channels = self.shapes[source]
        return self.op("global_average_pool", name, source, shape=(n, 1, 1, channels), keepdims=True)

    def squeeze(self, name, source, reduced=4, gain=1.0):
        """Squeeze-and-excitation."""
        channels = self.shapes[source][-1]
        inner = self.conv(f"{name}/reduce", self.pool(f"{name}/pool", source), reduced, activation="relu", gain=gain)
        gate = self.op("hard_sigmoid", f"{name}/gate", self.conv(f"{name}/expand", inner, channels))
        return self.op("multiply", name, source, gate)

    def graph(self):
        return Graph("net", "x", self.ops[-1].output, tuple(self.ops), self.shapes)

    def _weighted(self, kind, name, source, *, kernel, shape, activation, pad):
        outputs = shape[-1]
        self.shapes[name] = shape
        bias = self.rng.normal(0, 0.3, outputs).astype(np.float32)
        kernel = kernel.astype(np.float32)
        self.ops.append(
            Op(kind, name, (source,), name, kernel=kernel, bias=bias, pads=(pad,) * 4, activation=activation)
        )
        return name


def images(graph, count=12, seed=1):
    """Return inputs in [-1, 1], (N, H, W, C); each image has its own brightness, as photographs do."""
    rng = np.random.default_rng(seed)
    shape = (count, *graph.shapes[graph.input][1:])
    level = rng.uniform(-0.6, 0.6, (count, 1, 1, shape[-1]))
    return np.clip(level + rng.uniform(-0.4, 0.4, shape), -1, 1).astype(np.float32)


def output(graph, x):
    return run_graph(graph, x)[graph.output]


def assert_same(graph, other, x=None, atol=1e-4):
    """Check that both compute the same function, relative to the largest output."""
    x = images(graph) if x is None else x
    expected = output(graph, x)
    assert np.ptp(expected) > 0.01, "the graph gives the same for everything, so nothing is tested"
    np.testing.assert_allclose(output(other, x), expected, atol=atol * max(1.0, np.abs(expected).max()))


def calibrated(graph, x=None, floors=None):
    x = images(graph) if x is None else x
    return CalibratedGraph(graph, observe(graph, [image[None] for image in x], len(x)), floors or {})


def integers(made, x):
    """Return the real values of every tensor, with 8-bit activations and the biases of `made`."""
    values = {made.graph.input: as_stored(x, made.activations[made.graph.input])}
    for op in made.graph.ops:
        shape = (len(x), *made.graph.shapes[op.output][1:])
        inputs = [values[name] for name in op.inputs]
        if op.name in made.weights:
            weights = made.weights[op.name]
            bias = weights.bias * (np.float64(made.activations[op.inputs[0]].scale) * weights.scales)
            result = run_op(real_weights(op, weights), inputs, shape) + bias.astype(np.float32)
        else:
            result = run_op(op, inputs, shape)
        values[op.output] = as_stored(activated(op, result), made.activations[op.output])
    return {name: np.asarray(value) for name, value in values.items()}


def demo_model(name):
    """Return the demo's trained Keras model `name`."""
    from mbn_deploy.models.api import build

    spec = DEMO_SPECS[name]
    with resources.as_file(resources.files("mbn_deploy.demo") / weights_name(name)) as weights:
        return build(name, alpha=spec.alpha, size=spec.size, classes=spec.classes, weights=weights)


@cache
def demo_graph(name):
    """Return (folded graph, preprocess) of the demo's trained network `name`."""
    from mbn_deploy.pipeline.options import ExportOptions
    from mbn_deploy.pipeline.source import open_source

    source = open_source(demo_model(name), ExportOptions(precisions=("float32",), resize="squash"))
    return source.graph, source.description.preprocess


def pixels_of(digits):
    return np.stack([np.repeat(np.asarray(p)[..., None], 3, -1) for p in digits.pictures()])


@cache
def demo_calibration(count=60):
    calibration, _ = shipped()
    found = pixels_of(calibration)[:count]
    return CalibrationSet(found, tuple(map(str, range(len(found)))), "0" * 64)


@cache
def demo_held_back():
    """Return uint8 images (N, 32, 32, 3) and the digits."""
    _, held_back = shipped()
    return pixels_of(held_back), held_back.digits.astype(int)


PLAIN_PREPROCESS = Preprocess(mean=(127.5,) * 3, std=(127.5,) * 3, resize="squash")
