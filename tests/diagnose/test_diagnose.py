"""Which layers hurt: the figures against theory, a spoiled layer found, rescaled channels compared."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from quantize_graphs import demo_model

from mbn_deploy.demo.digits import shipped
from mbn_deploy.diagnose.diagnose import diagnose
from mbn_deploy.diagnose.layer_errors import ChannelSums, decibel, divergences, spread
from mbn_deploy.diagnose.read_graph import read_file_graph
from mbn_deploy.diagnose.tensor_runner import open_runner
from mbn_deploy.errors import InputError, UsageError
from mbn_deploy.export.encode import encode_float, encode_int8
from mbn_deploy.graph.quantized import QuantParams
from mbn_deploy.graph.rescaling import Rescaling
from mbn_deploy.pipeline.options import ExportOptions
from mbn_deploy.pipeline.source import open_source
from mbn_deploy.quantize.calibration import load_calibration
from mbn_deploy.quantize.channel_groups import channel_groups, rescale
from mbn_deploy.quantize.quantize import quantize
from mbn_deploy.quantize.recipe import INT8, PLAIN

ROUNDING = 1 / np.sqrt(12)  # of a step: the error of uniform rounding
NETWORKS = ("mobilenet_v2", "mobilenet_v3_small")
FORMATS = ("tflite", "onnx")
# Hardly anything saturates: what is left is rounding, and theory says how large that is.
ROUNDS = replace(INT8, name="int8-rounds", ranges="min-max", absorb=False)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    root = tmp_path_factory.mktemp("digits")
    calibration, held_back = shipped()
    calibration.write(root / "calibration", by_class=False)
    held_back.write(root / "held-back", by_class=False)
    return root


@pytest.fixture(scope="module")
def sources(digits):
    """By network: what an export starts from, and the calibration set."""
    sources = {name: open_source(demo_model(name), ExportOptions(resize="squash", calibrate="x")) for name in NETWORKS}
    return {
        name: (s, load_calibration(digits / "calibration", s.size, s.description.preprocess, count=60))
        for name, s in sources.items()
    }


@dataclass(frozen=True)
class Pair:
    """A quantized and a float file, and what quantization did to channels."""

    quantized: Path
    exact: Path
    rescalings: dict[str, Rescaling]

    def compared(self, images, count=12):
        return diagnose(self.quantized, self.exact, images, count=count, rescalings=self.rescalings)


@pytest.fixture(scope="module")
def write(sources, tmp_path_factory):
    """Writes float and int8 files of a network in both formats."""

    def pairs(name, quantization):
        folder = tmp_path_factory.mktemp(name)
        source, _ = sources[name]
        pairs = {}
        for kind in FORMATS:
            encoded = (
                encode_int8(quantization.graph, quantization.preprocess, source.description, kind),
                encode_float(source.graph, source.description, kind, "float32"),
            )
            for file in encoded:
                (folder / file.name).write_bytes(file.data)
            pairs[kind] = Pair(*(folder / file.name for file in encoded), quantization.rescalings)
        return pairs

    return pairs


@pytest.fixture(scope="module")
def quantized(sources):
    return {name: quantize(s.graph, s.description.preprocess, c, ROUNDS) for name, (s, c) in sources.items()}


@pytest.fixture(scope="module")
def files(write, quantized):
    return {name: write(name, quantized[name]) for name in NETWORKS}


@pytest.fixture(scope="module")
def found(files, digits):
    return {(name, kind): files[name][kind].compared(digits / "held-back") for name in NETWORKS for kind in FORMATS}


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("name", NETWORKS)
def test_layers_have_keras_names_and_alone_they_round(found, sources, name, kind):
    rows = found[name, kind].layers
    assert len(rows) > 60
    known = {layer.name for layer in sources[name][0].model.layers}
    assert {row.layer for row in rows if "multiply" not in row.layer} <= known | {"predictions"}
    assert found[name, kind].agreement == 1
    alone = [row.error_alone for row in rows]
    # Nothing but rounding in the median; weights, too, are rounded, so hardly a layer has less.
    assert np.median(alone) == pytest.approx(ROUNDING, rel=0.2)
    assert np.median([row.error for row in rows]) > 1.5 * np.median(alone)
    assert all(0 <= row.saturated_low <= 1 and 0 <= row.saturated_high <= 1 for row in rows)
    assert not found[name, kind].unknown


@pytest.mark.parametrize("name", NETWORKS)
def test_both_formats_and_mixed_pairs_tell_the_same(found, files, digits, name):
    first = {row.tensor: row for row in found[name, "tflite"].layers}
    second = {row.tensor: row for row in found[name, "onnx"].layers}
    assert first.keys() == second.keys()
    for tensor, row in first.items():
        assert row.scale == pytest.approx(second[tensor].scale, rel=1e-6)
        assert row.sqnr_alone == pytest.approx(second[tensor].sqnr_alone, abs=0.5), tensor
        assert row.factors == pytest.approx(second[tensor].factors, rel=1e-2), tensor
        assert row.sqnr == pytest.approx(second[tensor].sqnr, abs=3), tensor
    crossed = replace(files[name]["tflite"], exact=files[name]["onnx"].exact).compared(digits / "held-back")
    for row in crossed.layers:
        assert row.sqnr == pytest.approx(first[row.tensor].sqnr, abs=0.05)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("name", NETWORKS)
def test_ops_of_a_file_run_one_by_one_are_what_the_interpreter_runs(files, name, kind):
    """The float file, every tensor; of the int8 one the output, within two of its levels."""
    rng = np.random.default_rng(0)
    for path in (files[name][kind].quantized, files[name][kind].exact):
        data = path.read_bytes()
        network = read_file_graph(data, kind, path.name)
        assert all(op.run for op in network.ops)
        levels = network.params.get(network.input)
        pixels = rng.integers(0, 256, (1, 32, 32, 3), np.uint8)
        real = pixels / np.float32(127.5) - 1 if levels is None else levels.dequantize(pixels)
        values = {network.input: np.asarray(real, np.float32)}
        for op in network.ops:
            made = op.run([values[i] for i in op.inputs])
            values[op.output] = network.params[op.output].round(made) if op.output in network.params else made
        wanted = [network.output] if levels is not None else [op.output for op in network.ops]
        stored = pixels if levels is not None else values[network.input]
        source = stored.transpose(0, 3, 1, 2) if kind == "onnx" else stored
        ran = open_runner(data, network, wanted).run(np.ascontiguousarray(source))
        for tensor in wanted:
            tolerance = 2e-4 * max(1, np.abs(ran[tensor]).max()) if levels is None else 0.06
            np.testing.assert_allclose(values[tensor].reshape(ran[tensor].shape), ran[tensor], atol=tolerance)


def spoiled(quantization, tensor, factor):
    """One tensor with a step `factor` times as wide, and the biases of what reads it in the new unit."""
    graph = quantization.graph
    params = graph.activations[tensor]
    activations = {**graph.activations, tensor: QuantParams(params.scale * factor, params.zero_point)}
    weights = dict(graph.weights)
    for op in graph.graph.readers()[tensor]:
        if op.name in weights:
            bias = np.rint(weights[op.name].bias / factor).astype(np.int32)
            weights[op.name] = replace(weights[op.name], bias=bias)
    return replace(quantization, graph=replace(graph, activations=activations, weights=weights))


@pytest.mark.parametrize("kind", FORMATS)
def test_a_layer_with_a_scale_eight_times_too_wide_is_first(write, quantized, found, digits, kind):
    name, layer = "mobilenet_v3_small", "expanded_conv_1_project"
    files = write(name, spoiled(quantized[name], f"{layer}_bn", 8))
    rows = files[kind].compared(digits / "held-back").layers
    (before,) = (row for row in found[name, kind].layers if row.layer == layer)
    assert rows[0].layer == layer
    assert rows[0].effect > 3 * rows[1].effect
    assert before.sqnr_alone - rows[0].sqnr_alone == pytest.approx(20 * np.log10(8), abs=2)
    assert rows[0].error_alone == pytest.approx(ROUNDING, rel=0.2)  # in steps: it is the step that is too wide


def test_a_range_that_is_too_narrow_is_first_and_saturates(write, quantized, digits):
    name, layer = "mobilenet_v3_small", "expanded_conv_1_project"
    files = write(name, spoiled(quantized[name], f"{layer}_bn", 1 / 8))
    first = files["tflite"].compared(digits / "held-back").layers[0]
    assert first.layer == layer
    assert first.saturated_low + first.saturated_high > 0.3
    assert first.error > 20


def test_rescaled_channels_are_compared_in_their_own_scale(sources, write, digits):
    """The float file keeps the original scale, the int8 one has every free group multiplied by factors of 1/4 to 4."""
    name = "mobilenet_v2"
    source, calibration = sources[name]
    rng = np.random.default_rng(3)
    graph, expected = source.graph, {}
    for group in channel_groups(graph):
        factors = 4 ** rng.uniform(-1, 1, group.channels)
        graph = rescale(graph, group, factors)
        expected.update(dict.fromkeys(group.tensors, Rescaling(factors, np.zeros(1))))
    assert len(expected) > 20
    files = write(
        name, replace(quantize(graph, source.description.preprocess, calibration, PLAIN), rescalings=expected)
    )
    for row in files["tflite"].compared(digits / "held-back").layers:
        factors = expected[row.tensor].factor if row.tensor in expected else np.ones(1)
        assert row.factors == (factors.min(), factors.max()), row.tensor
        assert row.sqnr_alone > 15, row.tensor


@pytest.mark.parametrize(("name", "kind"), [("mobilenet_v2", "onnx"), ("mobilenet_v3_small", "tflite")])
def test_absorbed_channels_are_compared_around_their_own_centre(sources, found, write, digits, *, name, kind):
    """Projections and sums around other centres than in float: each layer alone is as close as without it."""
    source, calibration = sources[name]
    files = write(
        name, quantize(source.graph, source.description.preprocess, calibration, replace(ROUNDS, absorb=True))
    )
    rows = {row.tensor: row for row in files[kind].compared(digits / "held-back").layers}
    plain = {row.tensor: row for row in found[name, kind].layers}
    assert rows.keys() == plain.keys()
    moved = [t for t, row in rows.items() if row.sqnr_alone is not None and row.scale < 0.99 * plain[t].scale]
    assert len(moved) > 5
    gains = [rows[t].sqnr_alone - plain[t].sqnr_alone for t in rows]
    assert np.median(gains) > -0.5
    assert min(gains) > -10  # tighter ranges saturate sooner on pictures that they were not taken from
    assert np.median([rows[t].error_alone for t in moved]) == pytest.approx(ROUNDING, rel=0.2)


def test_bad_pairs_are_refused(files, digits, tmp_path):
    pair, images = files["mobilenet_v3_small"]["tflite"], digits / "held-back"
    small, exact, other = pair.quantized, pair.exact, files["mobilenet_v2"]["tflite"].exact

    def refused(error, names, file, reference, data=images, **options):
        with pytest.raises(error, match=names):
            diagnose(file, reference, data, rescalings=pair.rescalings, **options)

    refused(UsageError, r"int8\.tflite is quantized", small, small)
    refused(UsageError, r"float32\.tflite is not quantized", exact, exact)
    refused(UsageError, "not 0", small, exact, count=0)
    refused(InputError, "absent", small, exact, data=tmp_path / "absent")
    refused(InputError, r"absent\.onnx", small, tmp_path / "absent.onnx")
    # Two networks share few names, of other shapes; what they share is no reason for an answer.
    refused(InputError, rf"{small.name} and .*{other.name}", small, other)


def test_sums_give_noise_up_to_factors():
    rng = np.random.default_rng(0)
    r = rng.normal(0, 1, (1000, 3)).astype(np.float32)
    factors = np.array([1.0, 6.0, 0.25])
    noise = rng.normal(0, 0.01, r.shape).astype(np.float32)
    sums = ChannelSums(3)
    sums.add(r[:600], ((r + noise) * factors)[:600].astype(np.float32))
    sums.add(r[600:], ((r + noise) * factors)[600:].astype(np.float32))
    assert sums.sqnr(factors) == pytest.approx(40, abs=0.5)
    assert sums.error(factors) == pytest.approx(0.01 * np.sqrt((factors**2).mean()), rel=0.05)
    lost = ChannelSums(1)
    lost.add(np.ones((5, 1), np.float32), np.zeros((5, 1), np.float32))
    assert lost.sqnr(np.ones(1)) == pytest.approx(0)  # a channel that vanished is all noise


def test_small_measures():
    assert decibel(100.0, 1.0) == pytest.approx(20)
    assert (decibel(1.0, 0.0), decibel(0.0, 1.0)) == (120, -120)
    assert spread(np.array([0.0, 1.0, 2.0, 10.0])) == pytest.approx(5)
    assert spread(np.zeros(4)) is None
    p, q = np.array([[0.75, 0.25]]), np.array([[0.5, 0.5]])
    assert divergences(p, q, independent=False)[0] == pytest.approx(0.75 * np.log(1.5) + 0.25 * np.log(0.5))
    assert divergences(p, p, independent=True)[0] == pytest.approx(0, abs=1e-12)


def test_mixed_files_have_float_layers_without_levels(sources, write, digits):
    name = "mobilenet_v3_small"
    source, calibration = sources[name]
    recipe = replace(INT8, float_blocks=1)
    files = write(name, quantize(source.graph, source.description.preprocess, calibration, recipe))
    for kind in FORMATS:
        rows = files[kind].compared(digits / "held-back", count=8).layers
        floats = [row for row in rows if row.dtype == "float32"]
        assert len(floats) > 5
        assert all(row.scale is None and row.error is None and row.saturated_high is None for row in floats)
        assert all(row.sqnr_alone > 50 for row in floats), [(r.layer, r.sqnr_alone) for r in floats]
