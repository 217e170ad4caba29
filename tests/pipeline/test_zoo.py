"""The zoo: more than two hundred models as people build them, exported, run and compared with Keras."""

from __future__ import annotations

from dataclasses import asdict

import keras
import numpy as np
import pytest
import zoo
from keras_files import saved

from mbn_deploy.errors import InputError
from mbn_deploy.manifest import TensorInfo
from mbn_deploy.pipeline.encoding import encode_files, encode_quantized
from mbn_deploy.pipeline.options import ExportOptions
from mbn_deploy.pipeline.recipe_search import file_to_run, recipes_to_try
from mbn_deploy.pipeline.source import open_source
from mbn_deploy.pipeline.steps import StepTimer
from mbn_deploy.progress import silent
from mbn_deploy.quantize.calibration import CalibrationSet
from mbn_deploy.runtime.preprocess import normalize
from mbn_deploy.runtime.system.child import ChildProcess
from mbn_deploy.runtime.tensors import to_real
from mbn_deploy.verify.interpreter_process import run_file

ALL = zoo.variants(each=3)
FLOAT_TOLERANCE = 1e-4  # of the largest answer, at least of 1
# int8 agrees with Keras by this correlation, or by the difference: the networks have random weights, and some answer
# nearly the same to every picture.
CORRELATION, FORMATS_CORRELATION, STEPS = 0.85, 0.97, 5 / 256


def test_the_zoo_has_its_size():
    assert len(ALL) == len(set(ALL)) >= 200
    assert len(zoo.BACKBONES) >= 12
    assert len(zoo.HEADS) + len(zoo.ENTRANCES) >= 40
    assert {variant.backbone for variant in ALL} == set(zoo.BACKBONES)


def pictures(shape, count=10):
    """Return smooth pictures, so that neighbouring pixels have to do with each other: uint8 (count, H, W, C)."""
    rng = np.random.default_rng(5)
    height, width, channels = shape
    coarse = rng.uniform(0, 255, (count, 5, 5, channels))
    rows = np.linspace(0, 3.999, height)
    columns = np.linspace(0, 3.999, width)
    top, left = rows.astype(int), columns.astype(int)
    down, right = (rows - top)[:, None, None], (columns - left)[:, None]
    above = coarse[:, top][:, :, left] * (1 - right) + coarse[:, top][:, :, left + 1] * right
    below = coarse[:, top + 1][:, :, left] * (1 - right) + coarse[:, top + 1][:, :, left + 1] * right
    return np.rint(above * (1 - down) + below * down).astype(np.uint8)


def exported(variant, folder):
    """Return the opened source, and the files of both formats in float32 and int8."""
    model = zoo.build(variant)
    form = zoo.FORMS[ALL.index(variant) % len(zoo.FORMS)]
    model = model if form == "memory" else saved(model, folder / f"m{form}")
    options = ExportOptions(**zoo.options(variant), precisions="float32,int8", calibrate=folder, resize="squash")
    source = open_source(model, options)
    pixels = pictures((*source.size, source.channels))
    calibration = CalibrationSet(pixels=pixels, names=tuple(map(str, range(len(pixels)))), sha256="")
    timer = StepTimer(silent)
    (recipe,) = recipes_to_try("int8", source.graph, options)
    quantized = encode_quantized(recipe, source, calibration, options, timer)
    return source, encode_files(source, {"int8": quantized.files}, options, timer)


@pytest.fixture(scope="module")
def run():
    """Run files on pictures in one process for all models, which is started anew when a file ends it."""
    children = []

    def run_all(files, pixels):
        if not children or children[-1].closed:
            children.append(ChildProcess())
        fields = [children[-1].call(run_file, file.name, asdict(file_to_run(file)), pixels) for file in files]
        return [to_real(each["outputs"], TensorInfo(**each["output"])) for each in fields]

    yield run_all
    for child in children:
        child.close()


def keras_answers(source, pixels):
    ordered = pixels[..., ::-1] if source.keras_preprocess.channels == "bgr" else pixels
    answers = source.model(normalize(ordered, source.keras_preprocess), training=False)
    return np.asarray(answers).reshape(len(pixels), -1)


@pytest.mark.parametrize("variant", ALL, ids=str)
def test_a_model_of_the_zoo(variant, run, tmp_path):
    source, files = exported(variant, tmp_path)
    pixels = pictures(source.model.inputs[0].shape[1:])
    expected = keras_answers(source, pixels)
    size = max(1.0, np.abs(expected).max())
    floats = [file for file in files if file.precision == "float32"]
    integers = [file for file in files if file.precision.startswith("int8")]
    assert len(floats) == len(integers) == 2
    for file, answers in zip(floats, run(floats, pixels), strict=True):
        assert np.abs(answers - expected).max() / size < FLOAT_TOLERANCE, file.name
    tflite, onnx = run(integers, pixels)
    for answers in (tflite, onnx):
        assert agree(answers, expected, CORRELATION)
    assert agree(tflite, onnx, FORMATS_CORRELATION)


def agree(one, other, correlation):
    """Return whether answers of two files are equal up to a few steps of 8 bits, or go up and down together."""
    if np.abs(one - other).max() <= STEPS * max(1.0, np.abs(other).max()):
        return True
    return np.corrcoef(one.ravel(), other.ravel())[0, 1] >= correlation


@pytest.mark.parametrize("head", zoo.REFUSED)
def test_a_head_that_is_refused(head, tmp_path):
    make, named = zoo.REFUSED[head]
    base = zoo.backbone("v2_0.75_64").model
    model = keras.Model(base.input, make(base.output))
    with pytest.raises(InputError, match=named):
        open_source(model, ExportOptions(preprocess="tf", precisions="float32"))
