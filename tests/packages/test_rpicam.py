"""Files for rpicam-apps: its stage `object_classify_tf`, rebuilt from its source, answers as the bundle's file."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import runtime_models as tiny

from mbn_deploy.answers import Answers
from mbn_deploy.errors import InputError
from mbn_deploy.export.tflite.edit import TFLiteEdit
from mbn_deploy.export.tflite.writer import write_tflite, write_tflite_int8
from mbn_deploy.graph.quantized import QuantParams
from mbn_deploy.manifest import DESCRIPTION_KEY, ModelFile, Preprocess
from mbn_deploy.packages.pi.rpicam import JSON_NAME, SIDE, StageFiles, lores_size, stage_files
from mbn_deploy.quantize.integers import quantize_graph
from mbn_deploy.quantize.ranges import CalibratedGraph, ChannelRange
from mbn_deploy.runtime import Classifier
from mbn_deploy.runtime.backends import open_backend

SHARED = Path(__file__).resolve().parents[3] / "shared"
SIZES = [(SIDE, SIDE), (32, 32)]


class Stage:
    """What tf_stage.cpp and object_classify_tf_stage.cpp do, on files in `folder`, where rpicam-apps are started."""

    def __init__(self, folder):
        from ai_edge_litert.interpreter import Interpreter

        self.config = json.loads((folder / JSON_NAME).read_text())["object_classify_tf"]
        self.interpreter = Interpreter(str(folder / self.config["model_file"]), num_threads=1)
        self.interpreter.allocate_tensors()
        self.input, self.output = self.interpreter.get_input_details()[0], self.interpreter.get_output_details()[0]
        assert self.input["dtype"] in (np.uint8, np.float32), "Input tensor data type not supported"
        assert np.prod(self.input["shape"]) == 224 * 224 * 3, "Input tensor size mismatch"
        assert self.output["dtype"] == np.uint8, "read as uint8 without asking"
        self.labels = (folder / self.config["labels_file"]).read_text("utf-8").removesuffix("\n").split("\n")
        assert self.output["shape"][-1] == len(self.labels), "Label count mismatch"

    def confidences(self, rgb):
        """By class, of 224 x 224 pixels."""
        values = rgb.reshape(self.input["shape"])
        if self.input["dtype"] == np.float32:
            config = self.config
            offset, scale = config.get("normalisation_offset", 127.5), config.get("normalisation_scale", 127.5)
            values = (values.astype(np.float32) - np.float32(offset)) / np.float32(scale)
        self.interpreter.set_tensor(self.input["index"], values)
        self.interpreter.invoke()
        return self.interpreter.get_tensor(self.output["index"]).reshape(-1) / 255.0

    def results(self, rgb):
        """(label, confidence), best first, as in the first frame."""
        found = [(c, i) for i, c in enumerate(self.confidences(rgb)) if c >= self.config["threshold_high"]]
        return [(self.labels[i], c) for c, i in sorted(found, reverse=True)[: self.config["number_of_results"]]]


def entry_of(data, preprocess, name="tiny_int8.tflite", precision="int8"):
    opened = open_backend(data, "tflite", threads=1)
    return ModelFile(name, "tflite", precision, "", len(data), opened.input, opened.output, preprocess)


ANSWERS = {
    "softmax": Answers("classes", "softmax"),
    "sigmoid": Answers("labels", "sigmoid"),
    "logits": Answers("classes", "logits"),
}


def int8_file(size=(SIDE, SIDE), head="softmax", dtype="uint8"):
    text = tiny.description("int8", tiny.PIXELS, head).to_json()
    small = tiny.quantized(head)  # its integers do not depend on the size
    large = replace(small, graph=replace(small.graph, shapes=tiny.graph(head, size=size).shapes))
    return write_tflite_int8(large, input_dtype=dtype, metadata={DESCRIPTION_KEY: text.encode()})


def float_file(size=(SIDE, SIDE), head="softmax", preprocess=tiny.TF):
    text = tiny.description("float32", preprocess, head).to_json()
    return write_tflite(tiny.graph(head, size=size), "float32", metadata={DESCRIPTION_KEY: text.encode()})


def written(folder, found):
    assert isinstance(found, StageFiles)
    folder.mkdir(exist_ok=True)
    for name, data in found.files.items():
        (folder / name).write_bytes(data)
    return folder


def pictures(size, count=10):
    """Colours and texture (N, H, W, 3), and the same in 224 x 224: every pixel a block."""
    rng = np.random.default_rng(5)
    small = rng.integers(0, 256, (count, 1, 1, 3)) + rng.normal(0, 30, (count, *size, 3))
    small = small.clip(0, 255).astype(np.uint8)
    return small, small.repeat(SIDE // size[0], 1).repeat(SIDE // size[1], 2)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("head", ["softmax", "sigmoid", "logits"])
@pytest.mark.parametrize("dtype", ["uint8", "int8", "float32"])
def test_integer_files_answer_level_for_level(tmp_path, size, head, dtype):
    """The stage reads q / 255 for q / 256; whatever the types at the ends were, q is the file's own."""
    data = int8_file(size, head, dtype)
    entry = entry_of(data, tiny.PIXELS)
    stage = Stage(written(tmp_path, stage_files(data, entry, ANSWERS[head], tiny.LABELS)))
    (tmp_path / "model.tflite").write_bytes(data)
    small, pictures_of_224 = pictures(size)
    with Classifier.open(tmp_path / "model.tflite", threads=1) as classifier:
        answers = classifier.predict(small)
    for scores, large in zip(answers, pictures_of_224, strict=True):
        confidences = stage.confidences(large)
        assert confidences.argmax() == scores.argmax()
        # Of logits, the softmax is one of integers in the stage's file: a level. Rounding to levels: half of one.
        levels = 1.0 if head == "logits" else 0.01 if dtype != "float32" else 0.51
        assert np.abs(confidences * 255 - scores * (256 if dtype != "float32" else 255)).max() <= levels + 0.5
        if confidences.max() >= 0.2:
            best = {label for label, score in zip(tiny.LABELS, confidences, strict=True) if score == confidences.max()}
            assert stage.results(large)[0][0] in best  # of equal ones the stage takes the last


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("head", ["softmax", "logits"])
def test_float_files_answer_to_half_a_level(tmp_path, size, head):
    data = float_file(size, head)
    stage = Stage(written(tmp_path, stage_files(data, entry_of(data, tiny.TF), ANSWERS[head], tiny.LABELS)))
    (tmp_path / "model.tflite").write_bytes(data)
    small, large = pictures(size)
    with Classifier.open(tmp_path / "model.tflite", threads=1) as classifier:
        scores = classifier.predict(small)
    found = np.array([stage.confidences(picture) for picture in large])
    assert np.abs(found - scores).max() <= 0.5 / 255 + 1e-3  # the mean of equal floats may be off in the last bit
    clear = np.sort(scores, 1)[:, -1] - np.sort(scores, 1)[:, -2] > 1 / 255
    assert clear.any()
    assert (found.argmax(1) == scores.argmax(1))[clear].all()


@pytest.mark.parametrize("integer", [True, False])
def test_a_lone_logit_becomes_its_sigmoid(tmp_path, integer):
    made = tiny.graph("logits", size=(SIDE, SIDE))
    dense = replace(made.ops[-1], kernel=made.ops[-1].kernel[:, :1], bias=made.ops[-1].bias[:1])
    made = replace(made, ops=(*made.ops[:-1], dense), shapes={**made.shapes, "d": (1, 1)})
    preprocess = tiny.PIXELS if integer else tiny.TF
    text = tiny.description("int8" if integer else "float32", preprocess, "logits", labels=("cat",)).to_json()
    metadata = {DESCRIPTION_KEY: text.encode()}
    if integer:
        spans = {"c": (np.zeros(8), np.full(8, 6)), "g": (np.zeros(8), np.full(8, 6)), "d": (-np.ones(1), np.ones(1))}
        ranges = {n: ChannelRange(low, high, (low + high) / 2, (high - low) ** 2) for n, (low, high) in spans.items()}
        calibrated = CalibratedGraph(made, ranges, {})
        data = write_tflite_int8(quantize_graph(calibrated, QuantParams(1 / 128, 0)), metadata=metadata)
    else:
        data = write_tflite(made, "float32", metadata=metadata)
    found = stage_files(data, entry_of(data, preprocess), Answers("binary", "logits"), ("cat",))
    assert ("LOGISTIC" in found.added, "SOFTMAX" in found.added) == (True, False)
    stage = Stage(written(tmp_path, found))
    (tmp_path / "model.tflite").write_bytes(data)
    _, large = pictures((SIDE, SIDE))
    with Classifier.open(tmp_path / "model.tflite", threads=1) as classifier:
        scores = classifier.predict(large)
    confidences = np.array([stage.confidences(picture) for picture in large])
    assert np.ptp(scores) > 0.01
    np.testing.assert_allclose(confidences, scores, atol=2.5 / 255)


@pytest.mark.parametrize("size", [(96, 96), (128, 128), (160, 192), (240, 240), (12, 64)])
def test_any_other_size_is_resized_inside(tmp_path, size):
    """One colour stays that colour, whatever the way of resizing."""
    data = int8_file(size)
    stage = Stage(written(tmp_path, stage_files(data, entry_of(data, tiny.PIXELS), Answers(), None)))
    opened = open_backend(data, "tflite", threads=1)
    for colour in ([200, 10, 30], [0, 255, 0], [90, 90, 90]):
        plain = np.full((1, *size, 3), colour, np.uint8)
        assert np.array_equal(
            stage.confidences(np.full((SIDE, SIDE, 3), colour, np.uint8)), opened.run(plain)[0] / 255.0
        )


def test_halves_of_a_picture_stay_where_they_are(tmp_path):
    """A gradient comes out as a gradient: nothing is mirrored, shifted or transposed on the way to 96 x 96."""
    data = int8_file((96, 96))
    edit = TFLiteEdit(
        stage_files(data, entry_of(data, tiny.PIXELS), Answers(), None).files["object_classify_tf.tflite"], "x"
    )
    operators = edit._graph.operators
    edit._graph.operators = [operators[0], operators[1]]  # the two that resize
    edit._result = int(operators[1].outputs[0])
    opened = open_backend(edit.finish({}), "tflite", threads=1)
    ramp = np.arange(SIDE, dtype=np.uint8)
    picture = np.stack(np.broadcast_arrays(ramp[:, None], ramp[None, :], 7), -1).astype(np.uint8)[None]
    (small,) = opened.run(picture)
    expected = (np.arange(96) + 0.5) * SIDE / 96 - 0.5  # centres of pixels
    assert np.abs(small[..., 0] - expected[:, None]).max() <= 1.5
    assert np.abs(small[..., 1] - expected[None, :]).max() <= 1.5
    assert (small[..., 2] == 7).all()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"channels": "bgr"}, "BGR"),
        ({"mean": (123.675, 116.28, 103.53)}, "123.675"),
        ({"std": (58.0, 57.0, 57.0)}, "58.0"),
    ],
)
def test_what_the_stage_cannot_give_is_refused(change, reason):
    preprocess = replace(tiny.TF, **change)
    data = float_file(preprocess=preprocess)
    with pytest.raises(InputError, match=reason):
        stage_files(data, entry_of(data, preprocess), Answers(), None)


def test_integers_that_are_no_pixels_are_refused():
    data = int8_file()
    with pytest.raises(InputError, match="int8"):
        stage_files(data, entry_of(data, Preprocess()), Answers(), None)


def test_batches_and_other_formats_are_refused():
    data = int8_file()
    entry = entry_of(data, tiny.PIXELS)
    for wrong in (
        replace(entry, format="onnx"),
        replace(entry, input=replace(entry.input, shape=(2, SIDE, SIDE, 3))),
        replace(entry, input=replace(entry.input, shape=(1, SIDE, SIDE, 1))),
        replace(entry, output=replace(entry.output, shape=(1, 5, 1))),
    ):
        with pytest.raises(InputError):
            stage_files(data, wrong, Answers(), None)


def test_damaged_bytes_are_named():
    data = int8_file()
    entry = entry_of(data, tiny.PIXELS, "flowers.tflite")
    for broken in (data[:100], b"", data[:4] + b"XXXX" + data[8:]):
        with pytest.raises(InputError, match="flowers"):
            stage_files(broken, entry, Answers(), None)


def test_labels_are_one_a_line_and_as_many_as_outputs(tmp_path):
    odd = ('"quoted"', "back\\slash", "n01440764: tench, Tinca tinca", "ünïcödé", "  $(reboot) ")
    data = int8_file()
    stage = Stage(written(tmp_path, stage_files(data, entry_of(data, tiny.PIXELS), Answers(), odd)))
    assert tuple(stage.labels) == odd
    without = Stage(written(tmp_path, stage_files(data, entry_of(data, tiny.PIXELS), Answers(), None)))
    assert without.labels == ["0", "1", "2", "3", "4"]


def test_the_same_file_gives_the_same_bytes_and_says_what_it_is(tmp_path):
    data = int8_file(head="logits")
    entry = entry_of(data, tiny.PIXELS)
    first, second = (stage_files(data, entry, ANSWERS["logits"], tiny.LABELS) for _ in range(2))
    assert first == second
    assert first.added == ("SOFTMAX",)
    model = written(tmp_path, first) / "object_classify_tf.tflite"
    with Classifier.open(model) as classifier:  # the runtime opens it like any other
        assert classifier.info.answers == Answers()
        assert classifier.labels == tiny.LABELS


@pytest.mark.parametrize(
    ("preprocess", "expected"),
    [
        (Preprocess(resize="squash"), (224, 224)),
        (Preprocess(resize="crop", crop_fraction=0.875), (342, 256)),
        (Preprocess(resize="crop", crop_fraction=1.0), (298, 224)),
        (Preprocess(resize="keras"), (224, 224)),
        (Preprocess(resize="keras-crop"), (298, 224)),
        (Preprocess(resize="torchvision"), (342, 256)),
    ],
)
def test_the_middle_of_the_stream_is_what_the_model_was_trained_on(preprocess, expected):
    data = int8_file()
    assert lores_size(replace(entry_of(data, tiny.PIXELS), preprocess=preprocess)) == expected


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="the real models and photographs are not beside the checkout")
def test_a_real_model_gives_photographs_the_same_class(tmp_path):
    from mbn_deploy.models.api import build
    from mbn_deploy.pipeline.export import export_model
    from mbn_deploy.runtime import load_pixels

    weights = SHARED / "models/float/mobilenet_v1_0.25_224.h5"
    bundle = export_model(
        build("mobilenet_v1", alpha=0.25, weights=weights), tmp_path / "dist", formats=["tflite"],
        precisions=["float32", "int8"], calibrate=SHARED / "imagenet/calibration", calibration_count=20,
        resize="squash",
    ).bundle  # fmt: skip
    photographs = sorted((SHARED / "imagenet/validation").glob("*/*"))[::14]
    for precision in ("int8", "float32"):
        entry = bundle.file("tflite", precision)
        made = stage_files(bundle.path(entry).read_bytes(), entry, bundle.manifest.answers, bundle.labels)
        stage = Stage(written(tmp_path / precision, made))
        pixels = np.stack([load_pixels(path, (SIDE, SIDE), entry.preprocess) for path in photographs])
        with bundle.open(precision=precision, threads=1) as classifier:
            scores = classifier.predict(pixels)
        found = np.array([stage.confidences(picture) for picture in pixels])
        clear = np.sort(scores, 1)[:, -1] - np.sort(scores, 1)[:, -2] > (0 if precision == "int8" else 1 / 255)
        assert clear.mean() > 0.9
        assert (found.argmax(1) == scores.argmax(1))[clear].all()
