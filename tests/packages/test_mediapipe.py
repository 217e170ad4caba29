"""What our .tflite files say of themselves, read by Google's own code: its schema's classes, and MediaPipe Tasks.

MediaPipe sends metrics about its use to Google, and has no switch for that (mediapipe#6291).
"""

import io
import zipfile

import export_models as models
import keras
import numpy as np
import pytest

from mbn_deploy import Classifier, export_model
from mbn_deploy.export.tflite.metadata import METADATA_KEY
from mbn_deploy.graph.graph import Graph, Op
from mbn_deploy.graph.input_normalization import red_first, uniform_input
from mbn_deploy.manifest import Preprocess
from mbn_deploy.runtime import load_pixels, normalize
from mbn_deploy.runtime.formats.tflite_file import read_metadata
from mbn_deploy.runtime.formats.tflite_metadata import google_metadata

mp = pytest.importorskip("mediapipe", reason="mediapipe has no wheel for this machine", exc_type=ImportError)
vision = pytest.importorskip("mediapipe.tasks.python.vision", exc_type=ImportError)
schema = pytest.importorskip("mediapipe.tasks.metadata.metadata_schema_py_generated", exc_type=ImportError)

ABOUT = {
    "description": 'Tells animals apart; "quoted" $HOME ünïcode',
    "model_version": "1.2.3",
    "author": "Ann Other",
    "license": "Apache-2.0",
}
MODES = ("tf", "unit", "raw", "torch", "caffe")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return models.write_pictures(tmp_path_factory.mktemp("pictures"), count=50)


@pytest.fixture(scope="module", params=MODES)
def made(request, tmp_path_factory, pictures):
    """(preprocessing, the Keras model, a bundle with every precision)."""
    out = tmp_path_factory.mktemp(request.param) / "bundle"
    mode = Preprocess.parse(request.param, resize="squash")
    model = trained_on(mode)
    export_model(
        model, out, preprocess=mode, formats=["tflite"],
        calibrate=pictures, labels=models.LABELS, **ABOUT,
    )  # fmt: skip
    return mode, model, out


def trained_on(mode):
    """Random weights, the first of a size that suits what pixels become."""
    model = models.small_model("mobilenet_v2", seed=4)
    weights = model.get_weights()
    model.set_weights([weights[0] * np.mean(mode.std) / 127.5, *weights[1:]])
    return model


def classified(file, pixels):
    """{label: score} by MediaPipe."""
    options = vision.ImageClassifierOptions(base_options=mp.tasks.BaseOptions(model_asset_path=str(file)))
    with vision.ImageClassifier.create_from_options(options) as tasks:
        found = [tasks.classify(mp.Image(mp.ImageFormat.SRGB, image)) for image in pixels]
    return [{c.category_name: c.score for c in result.classifications[0].categories} for result in found]


def files(out):
    return sorted(out.glob("*.tflite"))


def test_tasks_answer_as_we_do(made, pictures):
    """All precisions, and all ways to prepare pixels: those with a mean a channel, and blue first, too."""
    mode, _, out = made
    assert len(files(out)) == 4
    for file in files(out):
        with Classifier.open(file) as ours:
            pixels = [load_pixels(path, ours.info.size, mode_free(mode)) for path in sorted(pictures.iterdir())]
            scores = ours.predict(np.stack(pixels))
        theirs = np.array([[found[label] for label in models.LABELS] for found in classified(file, pixels)])
        level = 1 / 256 if "int8" in file.name else 1e-3  # float sums of another order; dynamic rounds activations
        assert np.abs(theirs - scores).max() <= (0.02 if "dynamic" in file.name else level)


def mode_free(mode):
    """Pixels as a camera gives them."""
    return Preprocess(resize=mode.resize)


def test_float_files_answer_as_keras(made, pictures):
    """What is folded into the graph changes nothing, at padded borders neither."""
    mode, model, out = made
    with Classifier.open(out, precision="float32") as ours:
        paths = sorted(pictures.iterdir())
        assert ours.info.preprocess.channels == "rgb"
        assert len(set(ours.info.preprocess.mean)) == 1
        scores = np.array([[p.score for p in sorted(ours.classify(path), key=lambda p: p.index)] for path in paths])
    wanted = [model.predict_on_batch(normalize(load_pixels(path, (32, 32), mode), mode)[None])[0] for path in paths]
    np.testing.assert_allclose(scores, wanted, atol=2e-5)


def test_int8_answers_like_keras(made, pictures):
    mode, model, out = made
    with Classifier.open(out, precision="int8") as ours:
        pixels = np.stack([load_pixels(path, (32, 32), mode_free(mode)) for path in sorted(pictures.iterdir())])
        scores = ours.predict(pixels)
    turned = pixels[..., ::-1] if mode.channels == "bgr" else pixels
    wanted = model.predict_on_batch(normalize(turned, mode))
    assert np.corrcoef(scores.ravel(), wanted.ravel())[0, 1] > 0.9  # random weights: their top-1 is a narrow win


def test_googles_schema_reads_everything(made):
    _, _, out = made
    for file in files(out):
        data = file.read_bytes()
        buffer = read_metadata(data, file.name)[METADATA_KEY]
        found = schema.ModelMetadataT.InitFromObj(schema.ModelMetadata.GetRootAs(buffer))
        said = [found.description, found.version, found.author, found.license, found.minParserVersion]
        assert said == [t.encode() for t in (ABOUT["description"], "1.2.3", "Ann Other", "Apache-2.0", "1.0.0")]
        (graph,) = found.subgraphMetadata
        (image,), (scores,) = graph.inputTensorMetadata, graph.outputTensorMetadata
        assert (image.name, scores.name) == (b"image", b"probability")
        assert image.content.contentProperties.colorSpace == schema.ColorSpaceType.RGB
        size = image.content.contentProperties.defaultSize
        assert (size.width, size.height) == (models.SIZE, models.SIZE)
        (unit,) = image.processUnits
        assert unit.optionsType == schema.ProcessUnitOptions.NormalizationOptions
        np.testing.assert_allclose(image.stats.max, (255 - unit.options.mean) / unit.options.std, rtol=1e-6)
        np.testing.assert_allclose(image.stats.min, -unit.options.mean / unit.options.std, rtol=1e-6)
        assert [list(scores.stats.min), list(scores.stats.max)] == [[0.0], [1.0]]
        (labels,) = scores.associatedFiles
        assert labels.type == schema.AssociatedFileType.TENSOR_AXIS_LABELS
        assert google_metadata(buffer, data, file.name).labels == models.LABELS


def test_labels_lie_stored_behind_the_model(made):
    _, _, out = made
    for file in files(out):
        with zipfile.ZipFile(io.BytesIO(file.read_bytes())) as archive:
            (entry,) = archive.infolist()
            assert (entry.filename, entry.compress_type) == ("labels.txt", zipfile.ZIP_STORED)
            assert archive.read(entry).decode().split() == list(models.LABELS)


def test_without_labels_and_words_nothing_is_made_up(tmp_path, pictures):
    export_model(models.small_model(), tmp_path / "b", preprocess=Preprocess.parse("tf"), formats=["tflite"],
           precisions=["float32"])  # fmt: skip
    (file,) = files(tmp_path / "b")
    found = schema.ModelMetadata.GetRootAs(read_metadata(file.read_bytes(), "m")[METADATA_KEY])
    assert found.Author() is found.License() is found.Version() is found.Description() is None
    assert not zipfile.is_zipfile(file)
    (answer,) = classified(file, [np.zeros((32, 32, 3), np.uint8)])
    assert list(answer) in ([None], [""])  # classes without names


def test_input_int8_is_what_tasks_refuse(tmp_path, pictures):
    """Said in the README: a phone with MediaPipe wants uint8 or float32 in front."""
    out = tmp_path / "b"
    export_model(models.small_model(), out, preprocess=Preprocess.parse("tf"), formats=["tflite"], precisions=["int8"],
           calibrate=pictures, input="int8", labels=models.LABELS)  # fmt: skip
    with pytest.raises((ValueError, RuntimeError)):
        classified(files(out)[0], [np.zeros((32, 32, 3), np.uint8)])


def test_blue_first_into_a_first_layer_that_is_no_convolution():
    """Then the turn is a layer of its own."""
    rng = np.random.default_rng(1)
    kernel, bias = rng.normal(size=(3, 3, 3, 1)).astype(np.float32), np.zeros(3, np.float32)
    graph = Graph(
        "d", "x", "y", (Op("depthwise", "y", ("x",), "y", kernel, bias),), {"x": (1, 5, 5, 3), "y": (1, 3, 3, 3)}
    )
    turned, preprocess = red_first(graph, Preprocess.parse("caffe"))
    assert [op.kind for op in turned.ops] == ["conv", "depthwise"]
    assert preprocess.mean == (123.68, 116.779, 103.939)
    np.testing.assert_array_equal(turned.ops[0].kernel[0, 0], np.eye(3)[::-1])


def test_one_mean_needs_no_layer():
    graph = Graph("d", "x", "x", (), {"x": (1, 5, 5, 3)})
    assert uniform_input(graph, Preprocess.parse("tf"))[0] is graph


def test_grey_pictures(tmp_path):
    inputs = keras.Input((24, 24, 1))
    x = keras.layers.Conv2D(8, 3, strides=2, activation="relu")(inputs)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, keras.layers.Dense(5, activation="softmax")(x))
    export_model(
        model, tmp_path / "b", preprocess=Preprocess.parse("0.5/255"), formats=["tflite"], precisions=["float32"]
    )
    (file,) = files(tmp_path / "b")
    found = schema.ModelMetadataT.InitFromObj(
        schema.ModelMetadata.GetRootAs(read_metadata(file.read_bytes(), "m")[METADATA_KEY])
    )
    content = found.subgraphMetadata[0].inputTensorMetadata[0].content.contentProperties
    assert content.colorSpace == schema.ColorSpaceType.GRAYSCALE


def test_the_same_bytes_every_time(made, tmp_path, pictures):
    mode, model, out = made
    export_model(model, tmp_path / "again", preprocess=mode, formats=["tflite"], precisions=["float32", "int8"],
           calibrate=pictures, labels=models.LABELS, **ABOUT)  # fmt: skip
    for file in files(tmp_path / "again"):
        assert file.read_bytes() == (out / file.name).read_bytes()
