"""Labelled folders, accuracy, intervals and comparisons."""

import numpy as np
import pytest
from PIL import Image

from mbn_deploy.answers import Answers
from mbn_deploy.data.dataset import load_dataset
from mbn_deploy.errors import InputError
from mbn_deploy.manifest import Preprocess
from mbn_deploy.verify import evaluate as evaluation
from mbn_deploy.verify.evaluate import keras_predictor, predict_all
from mbn_deploy.verify.measures.choose import measure_for
from mbn_deploy.verify.scores import top_classes
from mbn_deploy.verify.statistics import paired_difference, proportion

SIZE = (8, 8)
SQUASH = Preprocess(resize="squash")
LOGITS, SIGMOID = Answers("classes", "logits"), Answers("classes", "sigmoid")


def evaluate(predictors, dataset, size, preprocess, answers=None, **more):
    measure = measure_for(answers or Answers(), dataset.names, len(dataset))
    return evaluation.evaluate(predictors, dataset, size, preprocess, measure, **more)


def folder_of(root, names, each=3):
    """Images whose every pixel is 10 * class + number: a classifier can read both."""
    for index, name in enumerate(names):
        (root / name).mkdir(parents=True)
        for i in range(each):
            Image.new("RGB", SIZE, (10 * index + i,) * 3).save(root / name / f"{i}.png")
    return root


def test_sub_folders_are_labels_synsets_or_indices(tmp_path):
    labels, synsets = ["cat", "dog", "owl"], ["n01", "n02", "n03"]
    for names in (["owl", "cat"], ["n03", "n01"], ["2", "0"], ["n03", "cat"]):
        root = folder_of(tmp_path / "-".join(names), names)
        found = load_dataset(root, 3, labels=labels, synsets=synsets)
        assert {p.parent.name: c for p, c in zip(found.paths, found.truth, strict=True)} == {names[0]: 2, names[1]: 0}
        assert found.name == root.name


def test_labels_win_over_indices(tmp_path):
    root = folder_of(tmp_path / "d", ["1", "0"])
    assert set(load_dataset(root, 2, labels=["1", "0"]).truth) == {0, 1}
    found = load_dataset(root, 2, labels=["1", "0"])
    assert found.truth[[p.parent.name for p in found.paths].index("1")] == 0


def test_a_background_class_moves_synsets_up(tmp_path):
    root = folder_of(tmp_path / "d", ["n01"])
    assert set(load_dataset(root, 3, labels=["background", "cat", "dog"], synsets=["n01", "n02"]).truth) == {1}
    with pytest.raises(InputError, match="2 synsets for 3 classes"):
        load_dataset(root, 3, labels=["bird", "cat", "dog"], synsets=["n01", "n02"])


def test_unknown_sub_folders_are_named_with_near_names(tmp_path):
    root = folder_of(tmp_path / "d", ["cat", "dgo", "7"])
    with pytest.raises(InputError, match=r"2 of 3 .* '7', 'dgo' \(near: dog\)"):
        load_dataset(root, 2, labels=["cat", "dog"])
    with pytest.raises(InputError, match="--labels or --synsets"):
        load_dataset(root, 2)


def test_other_bad_folders(tmp_path):
    root = folder_of(tmp_path / "d", ["crane"])
    with pytest.raises(InputError, match="'crane'"):
        load_dataset(root, 2, labels=["crane", "crane"])
    with pytest.raises(InputError, match="1 labels for 2 classes"):
        load_dataset(root, 2, labels=["crane"])
    Image.new("RGB", SIZE).save(root / "loose.png")
    with pytest.raises(InputError, match=r"loose\.png"):
        load_dataset(root, 1, labels=["crane"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty"):
        load_dataset(tmp_path / "empty", 2)


def test_an_unreadable_image_is_named(tmp_path):
    root = folder_of(tmp_path / "d", ["0"])
    (root / "0" / "1.png").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"1\.png"):
        list(load_dataset(root, 1).images(SIZE, SQUASH))


def one_hot(classes, count=10):
    return np.eye(count, dtype=np.float32)[classes]


def test_accuracy_and_comparison_of_two_files(tmp_path):
    dataset = load_dataset(folder_of(tmp_path / "d", [str(i) for i in range(10)], each=5), 10)

    def perfect(pixels):
        return one_hot(pixels[:, 0, 0, 0] // 10)

    def worse(pixels):  # number 4 of each class is taken for the next class, with the right one second
        value = pixels[:, 0, 0, 0].astype(int)
        return np.where(
            (value % 10 == 4)[:, None], one_hot((value // 10 + 1) % 10) + perfect(pixels) / 2, perfect(pixels)
        )

    steps = []
    found = evaluate(
        {"float": perfect, "int8": worse}, dataset, SIZE, SQUASH, reference="float", progress=lambda *a: steps.append(a)
    )
    assert (found.dataset, found.images) == ("d", 50)
    assert found.accuracy["float"].figures["top1"].value == found.accuracy["int8"].figures["top5"].value == 1.0
    assert found.accuracy["int8"].figures["top1"] == proportion(40, 50)
    compared = found.comparison["int8"]
    assert set(found.comparison) == {"int8"}
    assert compared.difference.value == pytest.approx(-0.2)
    assert compared.agreement == proportion(40, 50)
    assert compared.more["kl"] > 0
    assert compared.more["confidence_drift"] == pytest.approx(-0.2 * (1 - 1 / 1.5), abs=0.01)
    assert steps[-1] == ("evaluate", 50, 50)


def test_scores_that_are_known_count_like_those_of_a_predictor(tmp_path):
    dataset = load_dataset(folder_of(tmp_path / "d", [str(i) for i in range(10)], each=5), 10)
    rng = np.random.default_rng(0)
    weights = {name: rng.normal(size=(1, 10)).astype(np.float32) for name in ("keras", "int8")}

    def predictor(name):
        return lambda pixels: np.sin(pixels[:, 0, 0, :1] * weights[name])

    plain = evaluate({n: predictor(n) for n in weights}, dataset, SIZE, SQUASH, reference="keras", answers=LOGITS)
    known = {"keras": predict_all(predictor("keras"), dataset, SIZE, SQUASH, step="float")}
    again = evaluate({"int8": predictor("int8")}, dataset, SIZE, SQUASH, known=known, reference="keras", answers=LOGITS)
    assert again == plain
    for name in weights:
        np.testing.assert_array_equal(again.answers[name]["best"], plain.answers[name]["best"])
    np.testing.assert_array_equal(again.answers["keras"]["best"][:, 0], known["keras"].argmax(axis=1))
    assert again.answers["int8"]["probabilities"].shape == (50, 3)


def test_equal_files_differ_in_nothing(tmp_path):
    dataset = load_dataset(folder_of(tmp_path / "d", ["0", "1"]), 10)
    rng = np.random.default_rng(0).normal(size=(64, 10)).astype(np.float32)

    def predict(pixels):
        return rng[: len(pixels)]

    compared = evaluate({"a": predict, "b": predict}, dataset, SIZE, SQUASH, reference="a", answers=LOGITS).comparison
    assert compared["b"].more == {"kl": 0.0, "confidence_drift": 0.0}
    assert compared["b"].agreement.value == 1.0
    sigmoid = evaluate({"a": predict, "b": predict}, dataset, SIZE, SQUASH, reference="a", answers=SIGMOID).comparison
    assert sigmoid["b"].more["kl"] is None


def test_a_decoded_set_is_kept_for_the_next_file(tmp_path):
    dataset = load_dataset(folder_of(tmp_path / "d", ["0"]), 10)
    first = list(dataset.images(SIZE, SQUASH))
    for path in dataset.paths:
        path.unlink()
    np.testing.assert_array_equal(first, list(dataset.images(SIZE, Preprocess(resize="squash", std=(2.0,) * 3))))
    with pytest.raises(InputError):
        list(dataset.images((9, 9), SQUASH))


def test_ties_go_to_the_lower_class():
    assert top_classes(np.array([[1, 3, 3, 2, 3]], np.float32), 4).tolist() == [[1, 2, 4, 3]]


def test_scores_that_are_not_finite_are_refused(tmp_path):
    dataset = load_dataset(folder_of(tmp_path / "d", ["0"]), 10)
    with pytest.raises(InputError, match="not finite"):
        evaluate({"a": lambda p: np.full((len(p), 10), np.nan, np.float32)}, dataset, SIZE, SQUASH)


def test_a_keras_model_gets_what_its_own_input_wants(tmp_path):
    import keras

    source = keras.Input((*SIZE, 3))
    model = keras.Model(source, keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(2.0, 1.0)(source)))
    pixels = np.random.default_rng(0).integers(0, 256, (5, *SIZE, 3), np.uint8)
    answer = keras_predictor(model, Preprocess.parse("unit"))(pixels)
    np.testing.assert_allclose(answer, pixels.mean((1, 2)) / 255 * 2 + 1, rtol=1e-5)


def test_wilson_interval_of_the_literature():
    # R. G. Newcombe, Statistics in Medicine 17 (1998), 857-872, table I, method 3: 81/263, 15/148, 0/20, 1/29.
    for hits, total, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0, 0.1611)):
        found = proportion(hits, total)
        assert (found.low, found.high) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))
    assert proportion(20, 20).high == 1.0


@pytest.mark.parametrize(("right", "kept", "gained"), [(0.77, 0.97, 0.1), (0.75, 0.6, 0.1), (0.9, 0.95, 0.3)])
def test_the_paired_interval_covers_the_truth_in_95_of_100_cases(right, kept, gained):
    rng = np.random.default_rng(0)
    truth = right * kept + (1 - right) * gained - right
    inside = 0
    for _ in range(2000):
        theirs = rng.random(300) < right
        ours = rng.random(300) < np.where(theirs, kept, gained)
        found = paired_difference(ours, theirs)
        assert found.low <= found.value <= found.high
        inside += found.low <= truth <= found.high
    assert 0.935 <= inside / 2000 <= 0.985


def test_a_paired_interval_is_narrower_than_two_single_ones():
    theirs = np.arange(700) < 540
    ours = theirs.copy()
    ours[:7] = False
    found, single = paired_difference(ours, theirs), proportion(540, 700)
    assert found.high - found.low < 0.5 * (single.high - single.low)
    turned = paired_difference(theirs, ours)
    assert (turned.value, turned.low, turned.high) == pytest.approx((-found.value, -found.high, -found.low))
