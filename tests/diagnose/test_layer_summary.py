"""The figures by layer that the report shows, beside what `diagnose` measures of the file itself."""

from dataclasses import replace

import numpy as np
import pytest
from export_models import small_model, write_pictures

from mbn_deploy.diagnose import layer_summary as module
from mbn_deploy.diagnose.diagnose import diagnose
from mbn_deploy.diagnose.layer_errors import MAX_DB
from mbn_deploy.diagnose.layer_summary import summarize_layers
from mbn_deploy.export.encode import encode_float, encode_int8
from mbn_deploy.pipeline.options import ExportOptions
from mbn_deploy.pipeline.source import open_source
from mbn_deploy.quantize.calibration import load_calibration
from mbn_deploy.quantize.quantize import quantize
from mbn_deploy.quantize.recipe import INT8, INT16, PLAIN

COUNT = 12


@pytest.fixture(scope="module")
def source():
    return open_source(small_model(), ExportOptions(precisions=["float32"]))


@pytest.fixture(scope="module")
def calibration(source, tmp_path_factory):
    folder = write_pictures(tmp_path_factory.mktemp("photos") / "calibration", COUNT)
    return folder, load_calibration(folder, source.size, source.description.preprocess, count=COUNT)


def figures(source, calibration, recipe):
    made = quantize(source.graph, source.description.preprocess, calibration[1], recipe)
    images, rows = summarize_layers(made, calibration[1])
    assert images == module.IMAGES
    return made, {row.layer: row for row in rows}


def test_without_conditioning_nothing_changes(source, calibration):
    made, rows = figures(source, calibration, PLAIN)
    assert list(rows) == [op.name for op in made.graph.graph.weighted()]
    for row in rows.values():
        assert row.weights[0] == row.weights[1]
        assert row.values[0] == row.values[1]
        assert row.dtype == "int8"
        assert row.covered[0] <= 0 <= row.covered[1]


def test_conditioning_evens_channels_out_and_costs_no_accuracy(source, calibration):
    _, plain = figures(source, calibration, PLAIN)
    _, rows = figures(source, calibration, INT8)
    spreads = [row.values for row in rows.values() if row.values[0] is not None]
    narrower = [after.spread < before.spread for before, after in spreads if before.spread != after.spread]
    assert sum(narrower) > len(narrower) / 2
    last = list(rows)[-1]
    assert rows[last].sqnr_accumulated > plain[last].sqnr_accumulated


def test_float_and_wide_layers(source, calibration):
    _, rows = figures(source, calibration, replace(INT8, float_layers=("Conv1",)))
    assert (rows["Conv1"].dtype, rows["Conv1"].covered) == ("float32", None)
    assert rows["Conv1"].sqnr_isolated == MAX_DB
    _, wide = figures(source, calibration, INT16)
    assert {row.dtype for row in wide.values()} == {"int16"}
    assert all(wide[name].sqnr_accumulated > rows[name].sqnr_accumulated for name in wide if name != "Conv1")


def test_noise_is_what_the_file_has(source, calibration, monkeypatch, tmp_path):
    """In dB. The interpreter rounds a value to the neighbouring level now and then."""
    monkeypatch.setattr(module, "IMAGES", COUNT)
    made, rows = figures(source, calibration, PLAIN)
    for file in (
        encode_int8(made.graph, made.preprocess, source.description, "tflite"),
        encode_float(source.graph, source.description, "tflite", "float32"),
    ):
        (tmp_path / file.name).write_bytes(file.data)
    files = {path.stem.rpartition("_")[2]: path for path in tmp_path.iterdir()}
    found = diagnose(files["int8"], files["float32"], calibration[0], count=COUNT, rescalings=made.rescalings)
    outputs = {op.output: op.name for op in made.graph.graph.weighted()}
    compared = [(rows[outputs[row.tensor]], row) for row in found.layers if row.tensor in outputs]
    assert len(compared) > 40
    alone = [abs(ours.sqnr_isolated - theirs.sqnr_alone) for ours, theirs in compared]
    run = [abs(ours.sqnr_accumulated - theirs.sqnr) for ours, theirs in compared]
    assert np.median(alone) < 0.2
    # Some tensors have 60 values here: a few that fall to the other side of a half move them by more.
    assert max(alone) < 1.5
    assert max(run) < 0.5
