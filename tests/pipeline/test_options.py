"""The options of the export: written in one place, checked, the same in Python and on the command line."""

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from cli_run import run
from export_models import LABELS, small_model, write_labelled, write_pictures

import mbn_deploy
from mbn_deploy.answers import Answers
from mbn_deploy.errors import InputError, UnknownNameError, UsageError
from mbn_deploy.manifest import Preprocess
from mbn_deploy.pipeline.export import export_model
from mbn_deploy.pipeline.label_names import read_labels
from mbn_deploy.pipeline.manifest_record import options_record
from mbn_deploy.pipeline.option_fields import options_of
from mbn_deploy.pipeline.options import ExportOptions

ROOT = Path(__file__).parents[2]

# One more option, declared in one place before anything is imported that is made from the options.
ONE_MORE = """
import contextlib, dataclasses, inspect, io, json, sys
from typing import Literal
from mbn_deploy.pipeline import options
from mbn_deploy.pipeline.option_fields import option

@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(options.ExportOptions):
    paint: Literal["red", "green"] = option("red", help="Colour of the files of `formats`.", group="Paint")

options.ExportOptions = Options
import docs_reference
import mbn_deploy
from mbn_deploy.cli.main import app
from mbn_deploy.pipeline.manifest_record import options_record
from mbn_deploy.sweep.plan import networks, plan_jobs

def shown(*words):
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        app(words, standalone_mode=False)
    return text.getvalue()

def fingerprint(**given):
    variants = networks(["mobilenet_v1"], [0.25], [32])
    return plan_jobs(variants, "out", Options(precisions="float32", **given))[0].fingerprint

try:
    mbn_deploy.export_model("no-such.keras", "out", precisions="float32", paint="gren")
except mbn_deploy.errors.UnknownNameError as error:
    refused = str(error)
print(json.dumps({
    "signature": str(inspect.signature(mbn_deploy.export_model).parameters["paint"]),
    "docstring": mbn_deploy.export_model.__doc__,
    "export": shown("export", "--help"),
    "sweep": shown("sweep", "--help"),
    "reference": docs_reference.page(),
    "record": options_record(Options(precisions="float32", paint="green")),
    "fingerprints": [fingerprint(), fingerprint(), fingerprint(paint="green")],
    "refused": refused,
}))
"""


def test_an_option_that_is_declared_in_one_place_is_everywhere():
    done = subprocess.run(
        [sys.executable, "-c", ONE_MORE], capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "scripts")]), "COLUMNS": "80"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["signature"] == "paint: Literal['red', 'green'] = 'red'"
    assert "paint: Colour of the files of `formats`." in found["docstring"]
    for command in ("export", "sweep"):
        assert "--paint red|green  Colour of the files of --formats." in found[command]
        assert "Paint:" in found[command].splitlines()
    entry = "`--paint red|green`\n: Colour of the files of `--formats`. Default: `red`.\n"
    assert found["reference"].count(entry) == 2
    assert found["record"] == {"precisions": ["float32"], "paint": "green"}
    first, again, other = found["fingerprints"]
    assert first == again != other
    assert "--paint 'gren'; did you mean green" in found["refused"]


def test_the_public_function_shows_every_option_with_type_default_and_help():
    parameters = inspect.signature(mbn_deploy.export_model).parameters
    assert list(parameters)[:2] == ["model", "output"]
    for each in options_of(ExportOptions):
        parameter = parameters[each.name]
        assert (parameter.kind, parameter.default, parameter.annotation) == (
            inspect.Parameter.KEYWORD_ONLY, each.default, each.type,
        )  # fmt: skip
        assert f"    {each.name}: {each.help[:40]}" in mbn_deploy.export_model.__doc__
    assert inspect.isfunction(mbn_deploy.export_model)
    with pytest.raises(TypeError, match="calibration"):
        export_model("model.keras", "dist", calibration="photos")


@pytest.mark.slow
def test_a_type_checker_sees_every_option(tmp_path):
    api = pytest.importorskip("mypy.api", reason="mypy reads the types")
    calls = tmp_path / "calls.py"
    calls.write_text(
        "from mbn_deploy import export_model\n"
        "result = export_model('a.keras', 'dist', calibrate='photos', formats='tflite', labels={0: 'cat'})\n"
        "result = export_model(model='a.keras', output='dist', preprocess='tf', input='int8', max_drop=1.0)\n"
        "reveal_type(result)\n"
        "export_model('a.keras', 'dist', calibration='photos')\n"
        "export_model('a.keras', 'dist', layout='nwhc')\n"
        "export_model('a.keras', 'dist', batch='1')\n"
    )
    printed, _, _ = api.run([str(calls), "--config-file", str(ROOT / "pyproject.toml"), "--no-incremental"])
    lines = [line.split(": ", 1) for line in printed.splitlines() if line.startswith(str(calls))]
    assert "mbn_deploy.pipeline.export.ExportResult" in lines[0][1]
    wrong = {int(place.rsplit(":", 1)[1]): text for place, text in lines[1:] if "error" in text}
    assert wrong.keys() == {5, 6, 7}
    assert all(name in wrong[line] for line, name in ((5, "calibration"), (6, "layout"), (7, "batch")))


def test_options_take_the_same_values_in_python_and_on_the_command_line():
    words = ExportOptions(formats="tflite,onnx", precisions="float32, int8", preprocess="tf", calibrate="photos")
    values = ExportOptions(
        formats=["tflite", "onnx"], precisions=("float32", "int8"), preprocess="tf", calibrate="photos",
    )  # fmt: skip
    assert words == values
    assert words.input_preprocess == Preprocess.parse("tf")
    assert ExportOptions(precisions="float32").precisions == ("float32",)
    assert ExportOptions(precisions="int8", calibrate="c", float_layers="a,b,a").float_layers == ("a", "b")
    with pytest.raises(UsageError, match="--formats"):
        ExportOptions(formats="tflite,,onnx", precisions="float32")
    with pytest.raises(UnknownNameError, match="tf"):
        ExportOptions(precisions="float32", preprocess="tff")


def test_the_record_has_what_is_not_the_default_and_no_path():
    options = ExportOptions(
        precisions="float32", preprocess="unit", labels=("a", "b"), evaluate="/home/me/photos", seed=3,
        author="Ann", overwrite=True, report=False,
    )  # fmt: skip
    record = options_record(options)
    assert record == {"precisions": ["float32"], "preprocess": "unit", "seed": 3}


@pytest.mark.parametrize("labels", [["cat", "dog"], {0: "cat", 1: "dog"}, {"dog": 1, "cat": 0}, {1: "dog", 0: "cat"}])
def test_labels_in_any_form(labels):
    assert read_labels(labels, Answers(), 2) == ("cat", "dog")
    assert ExportOptions(precisions="float32", labels=labels).labels in (["cat", "dog"], ("cat", "dog"))


@pytest.mark.parametrize(
    ("labels", "named"),
    [
        ({0: "cat", 2: "dog"}, "class 1"),
        ({"cat": 1, "dog": 1}, "class 1.*'cat'.*'dog'"),
        ({0: 1}, "1: 0"),
        ({"cat": "dog"}, "'dog'"),
        ({"cat": 0.5}, "0.5"),
        (["cat"], "1 labels"),
        ({0: "cat", 1: "dog", 2: "owl"}, "3 labels"),
    ],
)
def test_labels_that_do_not_fit_are_named(labels, named):
    with pytest.raises(InputError, match=named):
        read_labels(labels, Answers(), 2)


def test_a_dict_with_two_labels_of_one_class_is_refused_at_once():
    with pytest.raises(InputError, match="class 0"):
        ExportOptions(precisions="float32", labels={"cat": 0, "dog": 0})
    two_cranes = {134: "crane", **dict.fromkeys(range(134), "crane")}  # as ImageNet has
    assert ExportOptions(precisions="float32", labels=two_cranes).labels == ("crane",) * 135


def test_the_command_line_has_every_option_that_is_meant_for_it():
    screen = run("export", "--help").stdout
    for each in options_of(ExportOptions):
        assert (f" {each.flag}" in screen) == each.command_line, each.name


def test_onnx_activations_for_arm(tmp_path):
    bundle = export_model(
        small_model(), tmp_path / "dist", calibrate=write_pictures(tmp_path / "photos"),
        evaluate=write_labelled(tmp_path / "labelled"), labels=dict(enumerate(LABELS)),
        formats="onnx", precisions="int8", onnx_activations="int8",
    ).bundle  # fmt: skip
    model = onnx.load(bundle.path(bundle.file("onnx", "int8")))
    types = {i.name: i.data_type for i in model.graph.initializer}
    assert {types[n.input[2]] for n in model.graph.node if n.op_type == "QuantizeLinear"} == {onnx.TensorProto.INT8}
    assert bundle.labels == LABELS
    assert bundle.manifest.source["options"] == {
        "formats": ["onnx"], "precisions": ["int8"], "onnx_activations": "int8",
    }  # fmt: skip
