"""Several pixels at once in the first convolution: the same integers out of fewer, wider steps."""

from dataclasses import replace

import numpy as np
import pytest
from quantize_graphs import demo_calibration, demo_graph, demo_held_back

from mbn_deploy.errors import InputError, UsageError
from mbn_deploy.export.encode import Facts, encode_int8, with_batch
from mbn_deploy.export.tflite.delegate import probe_delegate
from mbn_deploy.graph.graph import Graph, Op, same_pads
from mbn_deploy.graph.quantized import ActivationParams, QuantizedGraph, QuantizedWeights
from mbn_deploy.graph.stem import group_pixels
from mbn_deploy.pipeline.options import Request
from mbn_deploy.quantize.quantize import quantize
from mbn_deploy.quantize.recipe import INT8, MIXED
from mbn_deploy.runtime.backends import open_backend

NETWORKS = ("mobilenet_v1", "mobilenet_v3_small")


@pytest.fixture(scope="module", params=NETWORKS)
def made(request):
    graph, preprocess = demo_graph(request.param)
    return quantize(graph, preprocess, demo_calibration(), INT8)


def scores(found, file_format, pixels, batch=1):
    integers = replace(found.graph, graph=with_batch(found.graph.graph, batch))
    file = encode_int8(
        integers, found.preprocess, Facts("demo", "softmax", found.preprocess), file_format, stem_pixels=pixels
    )
    backend = open_backend(file.data, file_format, threads=1)
    images = demo_held_back()[0][: 4 * batch].reshape(4, batch, *demo_held_back()[0].shape[1:])
    wanted = images if file_format == "tflite" else images.transpose(0, 1, 4, 2, 3)
    return file, np.concatenate([backend.run(np.ascontiguousarray(image)) for image in wanted])


@pytest.mark.parametrize("file_format", ["tflite", "onnx"])
@pytest.mark.parametrize("pixels", [2, 4, 8])
def test_answers_stay_the_same(made, file_format, pixels, tmp_path):
    _, expected = scores(made, file_format, 1)
    file, found = scores(made, file_format, pixels)
    np.testing.assert_array_equal(found, expected)
    if file_format == "tflite":
        (tmp_path / file.name).write_bytes(file.data)
        (tmp_path / "plain.tflite").write_bytes(scores(made, file_format, 1)[0].data)
        assert probe_delegate(tmp_path / file.name).partitions == probe_delegate(tmp_path / "plain.tflite").partitions


def test_a_batch_is_grouped_image_by_image(made):
    np.testing.assert_array_equal(scores(made, "tflite", 4, batch=2)[1], scores(made, "tflite", 1, batch=2)[1])


def one_convolution(width, kernel, stride, pads, kind="conv"):
    """A quantized graph that is one convolution of a picture of 6 rows."""
    rng = np.random.default_rng(0)
    integers = rng.integers(-127, 128, (3, kernel, 3, 5)).astype(np.int8)
    height_out = (6 + pads[0] + pads[1] - 3) // 2 + 1
    width_out = (width + pads[2] + pads[3] - kernel) // stride + 1
    op = Op(
        kind, "first", ("image",), "out", kernel=integers.astype(np.float32), bias=np.zeros(5, np.float32),
        stride=(2, stride), pads=pads,
    )  # fmt: skip
    shapes = {"image": (1, 6, width, 3), "out": (1, height_out, width_out, 5)}
    weights = QuantizedWeights(integers, np.full(5, 1e-3, np.float32), rng.integers(-99, 99, 5).astype(np.int32))
    params = {"image": ActivationParams(0.02, 3), "out": ActivationParams(0.05, -7)}
    return QuantizedGraph(Graph("one", "image", "out", (op,), shapes), params, {"first": weights})


@pytest.mark.parametrize("pixels", [2, 4, 8])
@pytest.mark.parametrize(("kernel", "stride", "left"), [(3, 2, 0), (3, 2, 1), (5, 2, 2), (3, 1, 1), (7, 2, 3)])
def test_any_kernel_and_padding(kernel, stride, left, pixels):
    """Computed in numpy from the integers: what a group of pixels gives is what each of them gave."""
    right = kernel - stride - left if stride == 2 else kernel - 1 - left
    plain = one_convolution(32, kernel, stride, (0, 1, left, right))
    grouped = group_pixels(plain, pixels)
    image = np.random.default_rng(1).integers(-128, 128, (1, 6, 32, 3))
    (only,) = plain.graph.ops
    inner = grouped.graph.ops[1]
    expected = convolved(image, only, plain.weights["first"])
    wide = convolved(image.reshape(grouped.graph.shapes[inner.inputs[0]]), inner, grouped.weights["first"])
    assert wide.shape == grouped.graph.shapes[inner.output]
    np.testing.assert_array_equal(wide.reshape(expected.shape), expected)


def convolved(image, op, weights):
    """int32 sums; padding is the zero point 3."""
    top, bottom, left, right = op.pads
    padded = np.pad(image - 3, ((0, 0), (top, bottom), (left, right), (0, 0)))
    height, width = weights.kernel.shape[:2]
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), (1, 2))
    windows = windows[:, :: op.stride[0], :: op.stride[1]]
    return np.einsum("nyxchw,hwco->nyxo", windows, weights.kernel.astype(np.int64)) + weights.bias


def test_padding_as_tensorflow_has_it():
    assert same_pads(112, 2, 1) == (0, 1), "a group and the one behind it: SAME, which interpreters know"
    plan = group_pixels(one_convolution(32, 3, 2, (0, 1, 0, 1)), 4).graph.ops[1]
    assert plan.pads == (0, 1, 0, 1)


def test_a_kernel_that_ends_with_its_group_reads_no_other():
    grouped = group_pixels(one_convolution(32, 2, 2, (0, 1, 0, 0)), 4)
    assert grouped.graph.ops[1].pads == (0, 1, 0, 0)
    assert grouped.weights["first"].kernel.shape == (3, 1, 4 * 3, 2 * 5)


def test_layers_in_float_stay():
    graph, preprocess = demo_graph("mobilenet_v3_small")
    mixed = quantize(graph, preprocess, demo_calibration(), MIXED).graph
    assert group_pixels(mixed, 4) is mixed


def test_what_cannot_be_grouped_is_refused():
    with pytest.raises(InputError, match="36 wide"):
        group_pixels(one_convolution(36, 3, 2, (0, 1, 0, 1)), 8)
    with pytest.raises(InputError, match="stride of 3"):
        group_pixels(one_convolution(32, 3, 3, (0, 1, 0, 1)), 4)
    with pytest.raises(UsageError, match="1, 2, 4, 8, not 3"):
        Request(precisions=("float32",), stem_pixels=3)
