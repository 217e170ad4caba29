"""What a model's outputs mean: found in a file or asked for, and answered accordingly."""

import numpy as np
import pytest
import runtime_models as models
from cli_run import run

from mbn_deploy.answers import Answers
from mbn_deploy.errors import InputError, UsageError
from mbn_deploy.graph.graph import Graph
from mbn_deploy.manifest import TensorInfo
from mbn_deploy.runtime import Classifier, ClassifierPool
from mbn_deploy.runtime.decoding import Decoder

PIXELS = models.pictures()
GIVEN = {"preprocess": "tf", "resize": "squash"}


def opened(folder, *, kind="tflite", pool=False, **file):
    path = folder / f"tiny.{kind}"
    path.write_bytes(models.lone_file(kind, **file))
    given = {} if file.get("meaning") else GIVEN
    return ClassifierPool.open(path, size=2, threads=1, **given) if pool else Classifier.open(path, **given)


def logits(folder, outputs=models.CLASSES):
    path = folder / "raw.tflite"
    path.write_bytes(models.lone_file(outputs=outputs))
    return Classifier.open(path, **GIVEN, scores="embedding").predict(PIXELS)


def sigmoid(x):
    return 1 / (1 + np.exp(-x.astype(np.float64)))


@pytest.mark.parametrize("kind", ["tflite", "onnx"])
@pytest.mark.parametrize(
    ("head", "outputs", "answers"),
    [
        ("softmax", 5, Answers("classes", "softmax")),
        ("sigmoid", 5, Answers("labels", "sigmoid")),
        ("sigmoid", 1, Answers("binary", "sigmoid")),
        ("log_softmax", 5, Answers("classes", "logits")),
        ("logits", 5, Answers("classes", "logits")),
    ],
)
def test_the_last_operation_of_a_strange_file_tells(kind, head, outputs, answers, tmp_path):
    info = opened(tmp_path, kind=kind, head=head, outputs=outputs).info
    assert info.answers == answers
    assert len(info.assumptions) == (head == "logits")  # only those are assumed, and said


@pytest.mark.parametrize("kind", ["tflite", "onnx"])
def test_an_end_that_tells_nothing_is_asked_for(kind, tmp_path):
    path = tmp_path / f"tiny.{kind}"
    path.write_bytes(models.lone_file(kind, outputs=1))
    with pytest.raises(UsageError, match=r"--preprocess.*--resize.*--scores"):
        Classifier.open(path)
    assert Classifier.open(path, **GIVEN, scores="values").info.answers.meaning == "values"
    assert Classifier.open(path, **GIVEN, scores="binary").info.answers == Answers("binary", "logits")
    whole = models.graph()
    headless = Graph("tiny", "x", "g", whole.ops[:2], {name: whole.shapes[name] for name in "xcg"})
    writer = {"tflite": models.write_tflite, "onnx": models.write_onnx}[kind]
    path.write_bytes(writer(headless, "float32") if kind == "tflite" else writer(headless, layout="nhwc"))
    with pytest.raises(UsageError, match="--scores"):
        Classifier.open(path, **GIVEN)
    named = Classifier.open(path, **GIVEN, labels=[f"class {n}" for n in range(8)])
    assert named.info.answers == Answers("classes", "logits")
    assert len(named.info.assumptions) == 1
    assert Classifier.open(path, **GIVEN, scores="embedding").embed(PIXELS[0]).shape == (8,)


@pytest.mark.parametrize(("head", "scores"), [("softmax", "binary"), ("softmax", "values"), ("logits", "binary")])
def test_a_meaning_that_the_outputs_cannot_have_is_refused(head, scores, tmp_path):
    path = tmp_path / "tiny.tflite"
    path.write_bytes(models.lone_file(head=head))
    with pytest.raises(UsageError, match=scores):
        Classifier.open(path, **GIVEN, scores=scores)


@pytest.mark.parametrize("pool", [False, True])
@pytest.mark.parametrize("head", ["sigmoid", "logits"])
def test_each_label_stands_by_itself(head, pool, tmp_path):
    with opened(tmp_path, head=head, meaning="labels", labels=models.LABELS, pool=pool) as classifier:
        expected = sigmoid(logits(tmp_path))
        np.testing.assert_allclose(classifier.predict(PIXELS), expected, atol=1e-6)
        for pixels, row in zip(PIXELS, expected, strict=True):
            order = sorted((-p, models.LABELS[index]) for index, p in enumerate(row))
            found = classifier.classify(pixels)
            assert [p.label for p in found] == [name for p, name in order if -p >= 0.5]
            assert len(classifier.classify(pixels, threshold=0)) == models.CLASSES
            assert [p.label for p in classifier.classify(pixels, 2, threshold=0.0)] == [name for _, name in order[:2]]
        streamed = [result.predictions for result in classifier.classify_stream(PIXELS)]
        assert streamed == classifier.classify_batch(PIXELS) == [classifier.answer(pixels) for pixels in PIXELS]


@pytest.mark.parametrize("head", ["sigmoid", "logits"])
@pytest.mark.parametrize("labels", [("cat", "dog"), ("dog",), None])
def test_a_binary_model_names_both_sides(head, labels, tmp_path):
    classifier = opened(tmp_path, head=head, outputs=1, meaning="binary", labels=labels)
    names = {("cat", "dog"): ("cat", "dog"), ("dog",): ("not dog", "dog"), None: ("negative", "positive")}[labels]
    assert classifier.names == names
    for pixels, (p,) in zip(PIXELS, sigmoid(logits(tmp_path, outputs=1)), strict=True):
        first, second = classifier.classify(pixels)
        assert first.label == names[int(p > 0.5)]
        assert {first.label: first.score, second.label: second.score} == {
            names[0]: pytest.approx(1 - p, abs=1e-6), names[1]: pytest.approx(p, abs=1e-6),
        }  # fmt: skip


def test_values_are_numbers_with_names(tmp_path):
    classifier = opened(tmp_path, meaning="values", labels=models.LABELS)
    expected = logits(tmp_path)
    values = classifier.predict(PIXELS[0])
    assert [(v.index, v.label) for v in values] == list(enumerate(models.LABELS))
    np.testing.assert_allclose([v.value for v in values], expected[0], atol=1e-6)
    results = [[v.value for v in result.answer] for result in classifier.answer_stream(PIXELS)]
    np.testing.assert_allclose(results, expected, atol=1e-6)


def test_an_embedding_is_a_vector(tmp_path):
    classifier = opened(tmp_path, meaning="embedding")
    np.testing.assert_allclose(classifier.embed(PIXELS[0]), logits(tmp_path)[0], atol=1e-6)


@pytest.mark.parametrize(
    ("meaning", "wrong", "right"),
    [("classes", "predict", "classify"), ("values", "embed", "predict"), ("embedding", "classify", "embed")],
)
def test_the_wrong_method_names_the_right_one(meaning, wrong, right, tmp_path):
    classifier = opened(tmp_path, head="logits", meaning=meaning)
    with pytest.raises(UsageError, match=f"`{right}`"):
        getattr(classifier, wrong)(PIXELS[0])
    getattr(classifier, right)(PIXELS[0])


def test_numbers_that_are_no_probabilities_are_refused(tmp_path):
    """A description may lie: this file ends without the softmax that it names."""
    text = models.description("float32", models.TF).to_json()
    graph = models.graph("logits")
    path = tmp_path / "tiny.tflite"
    path.write_bytes(models.write_tflite(graph, "float32", metadata={models.DESCRIPTION_KEY: text.encode()}))
    with Classifier.open(path) as classifier, pytest.raises(InputError, match="probability"):
        [classifier.classify(pixels) for pixels in PIXELS]


@pytest.mark.parametrize(
    ("file", "key", "printed"),
    [
        ({"head": "softmax", "meaning": "classes"}, "predictions", "%"),
        ({"head": "sigmoid", "meaning": "labels"}, "predictions", "%"),
        ({"head": "logits", "outputs": 1, "meaning": "binary"}, "predictions", "%"),
        ({"meaning": "values"}, "values", None),
        ({"meaning": "embedding"}, "embedding", None),
    ],
)
def test_run_prints_what_the_answers_are(file, key, printed, tmp_path):
    import json

    from PIL import Image

    path, picture = tmp_path / "tiny.tflite", tmp_path / "picture.png"
    path.write_bytes(models.lone_file(**{"head": "logits", **file}))
    Image.fromarray(PIXELS[0]).save(picture)
    lines = run("run", path, picture, "--threshold", 0).stdout
    assert ("%" in lines) == (printed is not None)
    data = json.loads(run("run", path, picture, "--json").stdout)
    assert data["model"]["meaning"] == file["meaning"]
    assert key in data["images"][0]


def decoder_of_labels():
    output = TensorInfo("labels", (1, 3), "float32", None, None)
    return Decoder.for_output(output, Answers("labels", "sigmoid"), ("cat", "dog", "fish"))


def test_rounding_moves_no_probability_out_of_its_range():
    best = decoder_of_labels().predictions(np.float32([-0.0005, 1.0005, 0.5]), 3)
    assert [(each.label, each.score) for each in best] == [("dog", 1.0), ("fish", 0.5), ("cat", 0.0)]


@pytest.mark.parametrize("row", [[0.2, -0.5, 0.9], [0.2, -np.inf, 0.9], [1.5, 0.2, 0.3], [np.inf, 0.2, 0.3]])
def test_one_number_that_is_no_probability_is_enough(row):
    with pytest.raises(InputError, match=r"probability|finite"):
        decoder_of_labels().predictions(np.float32(row), 3)


@pytest.mark.parametrize("meaning", ["classes", "labels"])
@pytest.mark.parametrize("logit", [np.inf, -np.inf, np.nan])
def test_a_logit_that_is_not_finite_is_no_certain_answer(meaning, logit):
    decoder = Decoder.for_output(TensorInfo("logits", (1, 3), "float32"), Answers(meaning, "logits"), None)
    with pytest.raises(InputError, match="finite"):
        decoder.predictions(np.float32([logit, 0, 1]), 3)
