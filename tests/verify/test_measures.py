"""What is measured of answers of every meaning, on arrays."""

import numpy as np
import pytest

from mbn_deploy.answers import Answers
from mbn_deploy.verify.measures.choose import measure_for
from mbn_deploy.verify.measures.measure import METRICS, joined
from mbn_deploy.verify.record import accuracy_record, comparison_record
from mbn_deploy.verify.statistics import group_of, jackknife, mean_estimate, paired_difference, proportion

NAMES = ("ant", "bee", "cat", "dog", "eel", "fox")


def measured(answers, names, own, reference, truth, **more):
    """The accuracy of `own`, and its comparison with `reference`, in batches of 32 as an evaluation has them."""
    measure = measure_for(answers, names, len(own), **more)
    columns = [
        joined([measure.columns(each[at : at + 32], reference[at : at + 32], at) for at in range(0, len(own), 32)])
        for each in (own, reference)
    ]
    accuracy = None if truth is None else measure.accuracy(columns[0], truth)
    return accuracy, measure.compare("keras", *columns, truth), measure


def rng(seed=0):
    return np.random.default_rng(seed)


def test_classes_by_class_and_by_confusion():
    truth = np.array([0, 0, 0, 1, 1, 2])
    said = np.array([0, 1, 1, 1, 0, 2])
    scores = np.eye(6, dtype=np.float32)[said]
    accuracy, compared, _ = measured(Answers(), NAMES, scores, np.eye(6, dtype=np.float32)[truth], truth)
    assert accuracy.figures["top1"] == proportion(3, 6)
    assert accuracy.figures["top5"].value >= 0.5
    assert [(p.name, p.images, p.figures["accuracy"]) for p in accuracy.parts] == [
        ("ant", 3, pytest.approx(1 / 3)), ("bee", 2, 0.5), ("cat", 1, 1.0),
    ]  # fmt: skip
    assert [(c.truth, c.answer, c.images) for c in accuracy.confusions] == [("ant", "bee", 2), ("bee", "ant", 1)]
    assert compared.agreement == proportion(3, 6)
    assert compared.loss.value == pytest.approx(0.5)


def test_five_classes_have_no_top_5():
    scores = np.eye(5, dtype=np.float32)
    accuracy, _, _ = measured(Answers(), NAMES[:5], scores, scores, np.arange(5))
    assert list(accuracy.figures) == ["top1"]


def test_what_a_manifest_keeps_of_a_thousand_classes_is_short():
    truth = np.repeat(np.arange(1000), 2)
    scores = np.eye(1000, dtype=np.float32)[rng().integers(0, 1000, 2000)]
    accuracy, _, _ = measured(Answers(), tuple(map(str, range(1000))), scores, scores, truth)
    full, short = accuracy_record(accuracy), accuracy_record(accuracy, full=False)
    assert (len(full["parts"]), len(full["confusions"]) > 1500) == (1000, True)
    assert (len(short["parts"]), len(short["confusions"])) == (50, 50)
    assert {part["accuracy"] for part in short["parts"]} == {0.0}


@pytest.mark.parametrize("scores", ["sigmoid", "logits"])
def test_a_binary_model_decides_at_its_threshold_and_errs_in_two_ways(scores):
    truth = np.array([0] * 6 + [1] * 4)
    p = np.array([0.1, 0.2, 0.3, 0.4, 0.6, 0.5, 0.9, 0.8, 0.7, 0.35])
    own = (np.log(p / (1 - p)) if scores == "logits" else p).astype(np.float32)[:, None]
    accuracy, compared, _ = measured(Answers("binary", scores), ("cats", "dogs"), own, own, truth)
    figures = accuracy.figures
    assert figures["accuracy"] == proportion(8, 10)
    assert figures["false_positives"] == proportion(1, 6)  # a probability of exactly 0.5 is no yes, as in Keras
    assert figures["false_negatives"] == proportion(1, 4)
    pairs = [(a > b) + (a == b) / 2 for a in p[6:] for b in p[:6]]
    assert figures["auc"].value == pytest.approx(np.mean(pairs))
    assert figures["auc"].low <= figures["auc"].value <= figures["auc"].high <= 1
    assert compared.agreement.value == 1.0
    strict, _, _ = measured(Answers("binary", scores), ("cats", "dogs"), own, own, truth, threshold=0.75)
    assert strict.figures["accuracy"] == proportion(8, 10)
    assert strict.figures["false_positives"].value == 0


def test_a_binary_model_with_images_of_one_kind_has_no_curve():
    own = np.array([[0.1], [0.9]], np.float32)
    accuracy, _, _ = measured(Answers("binary", "sigmoid"), ("no", "yes"), own, own, np.array([0, 0]))
    assert set(accuracy.figures) == {"accuracy", "false_positives"}


def test_average_precision_is_that_of_the_definition():
    """Compared with a loop over thresholds, with ties; labels that no image has are left out of the mean."""
    truth = rng(1).random((60, 4)) < 0.4
    truth[:, 3] = False
    own = (rng(2).integers(0, 9, (60, 4)) / 8).astype(np.float32)
    accuracy, compared, _ = measured(Answers("labels", "sigmoid"), NAMES[:4], own, own, truth)
    expected = []
    for label in range(3):
        total, recall = 0.0, 0.0
        for threshold in sorted(set(own[:, label].tolist()), reverse=True):
            said = own[:, label] >= threshold
            hits = (said & truth[:, label]).sum()
            total += (hits / truth[:, label].sum() - recall) * hits / said.sum()
            recall = hits / truth[:, label].sum()
        expected.append(total)
    assert [p.figures["average_precision"] for p in accuracy.parts] == pytest.approx([*expected, None])
    mean = accuracy.figures["mean_average_precision"]
    assert mean.value == pytest.approx(np.mean(expected))
    assert mean.low < mean.value < mean.high
    said = own >= 0.5
    first = accuracy.parts[0]
    assert first.figures["precision"] == pytest.approx((said & truth)[:, 0].sum() / said[:, 0].sum())
    assert first.figures["recall"] == pytest.approx((said & truth)[:, 0].sum() / truth[:, 0].sum())
    assert first.images == truth[:, 0].sum()
    assert accuracy.figures["exact_match"] == proportion(int((said == truth).all(1).sum()), 60)
    assert (compared.difference.value, compared.loss.low, compared.agreement.value) == (0.0, 0.0, 1.0)


def test_labels_are_compared_with_the_reference_one_by_one():
    reference = np.tile(np.array([[0.9, 0.1]], np.float32), (40, 1))
    own = reference.copy()
    own[:10, 1] = 0.6
    _, compared, measure = measured(Answers("labels", "sigmoid"), ("cat", "dog"), own, reference, None)
    assert compared.agreement.value == pytest.approx(70 / 80)
    assert [part.figures["agreement"] for part in compared.parts] == [1.0, 0.75]
    assert compared.loss.value == pytest.approx(10 / 80)
    columns = measure.columns(own, reference, 0)
    assert [name for name, _ in measure.described(columns, 0)] == ["cat", "dog"]
    assert [name for name, _ in measure.described(columns, 20)] == ["cat"]


def test_values_are_judged_by_their_spread():
    """A value in metres and one in millimetres count alike."""
    truth = np.stack([np.linspace(0, 1, 50), 1000 * np.linspace(0, 1, 50)], axis=1).astype(np.float32)
    reference = truth + np.float32([0.01, 10.0])
    own = truth + np.float32([0.02, 20.0])
    accuracy, compared, _ = measured(Answers("values", "none"), ("m", "mm"), own, reference, truth)
    assert [p.figures["mean_absolute_error"] for p in accuracy.parts] == pytest.approx([0.02, 20.0], rel=1e-3)
    assert accuracy.figures["mean_absolute_error"].value == pytest.approx(10.01, rel=1e-3)
    spread = np.linspace(0, 1, 50).std()
    assert compared.loss.value == pytest.approx(0.01 / spread, rel=1e-2)
    assert compared.agreement is None
    assert compared.more["mean_distance"] == pytest.approx(5.005, rel=1e-3)
    _, without, _ = measured(Answers("values", "none"), ("m", "mm"), own, reference, None)
    assert without.difference is None
    assert without.loss.value == pytest.approx(0.01 / spread, rel=1e-2)
    assert without.loss.value >= compared.loss.value - 1e-6  # the distance from float bounds the loss


def test_values_that_are_all_equal_have_a_finite_loss():
    same = np.zeros((4, 1), np.float32)
    _, compared, _ = measured(Answers("values", "none"), ("v",), same + 0.25, same, same)
    assert compared.loss.value == pytest.approx(0.25)


def test_embeddings_are_compared_by_cosine_and_neighbours():
    centres = rng(3).normal(size=(4, 16)).astype(np.float32)
    classes = np.repeat(np.arange(4), 10)
    reference = centres[classes] + rng(4).normal(0, 0.05, (40, 16)).astype(np.float32)
    answers = Answers("embedding", "none")
    accuracy, compared, _ = measured(answers, NAMES[:4], 2 * reference, reference, classes)
    assert accuracy.figures["neighbour_accuracy"] == proportion(40, 40)
    assert compared.agreement == proportion(40, 40)
    assert compared.more == {"cosine": pytest.approx(1.0), "least_cosine": pytest.approx(1.0)}
    noise = rng(5).normal(size=(40, 16)).astype(np.float32)
    _, lost, _ = measured(answers, NAMES[:4], noise, reference, classes)
    assert lost.loss.value > 0.3
    _, without, _ = measured(answers, NAMES[:4], noise, reference, None)
    assert without.loss.value == pytest.approx(1 - without.more["cosine"])


def test_copies_of_a_picture_are_the_same_neighbour():
    vectors = rng(6).normal(size=(5, 8)).astype(np.float32)
    reference = np.concatenate([vectors, vectors, vectors])
    shaken = reference + rng(7).normal(0, 1e-5, reference.shape).astype(np.float32)
    _, compared, _ = measured(Answers("embedding", "none"), ("x",), shaken, reference, None)
    assert compared.agreement.value == 1.0


def test_of_many_embeddings_some_are_compared_with_each_other():
    vectors = rng(8).normal(size=(4100, 3)).astype(np.float32)
    accuracy, compared, measure = measured(Answers("embedding", "none"), ("x",), vectors, vectors, np.zeros(4100, int))
    assert measure.every == 3
    assert accuracy.images == len(range(0, 4100, 3))
    assert compared.agreement.value == 1.0


@pytest.mark.parametrize(
    ("meaning", "scores", "outputs"),
    [("classes", "softmax", 6), ("labels", "logits", 6), ("binary", "logits", 1), ("values", "none", 2),
     ("embedding", "none", 8)],
)  # fmt: skip
def test_equal_files_lose_nothing_whatever_they_answer(meaning, scores, outputs):
    own = rng(9).random((70, outputs)).astype(np.float32)
    truth = {"labels": rng(1).random((70, outputs)) < 0.5, "values": own + 1}.get(meaning, np.arange(70) % 2)
    answers = Answers(meaning, scores)
    names = answers.names(None, outputs)
    for right in (truth, None):
        accuracy, compared, measure = measured(answers, names, own, own, right)
        assert compared.loss.value == pytest.approx(0.0, abs=1e-6)
        record = comparison_record(compared, measure.main) | accuracy_record(accuracy)
        main = measure.main if right is not None else measure.unlabelled_main
        assert record[main] is not None
        assert main in METRICS
        columns = measure.columns(own, own, 0)
        assert measure.differences(columns, columns) == pytest.approx(np.zeros(70), abs=1e-6)
        assert all(isinstance(text, str) for pair in measure.described(columns, 3) for text in pair)
        assert measure.described_truth(truth, 3)


def test_the_jackknife_agrees_with_the_interval_of_a_mean():
    values = rng(10).normal(3.0, 2.0, 4000)
    groups = group_of(len(values))
    without = np.array([values[groups != group].mean() for group in range(groups.max() + 1)])
    found, known = jackknife(float(values.mean()), without), mean_estimate(values)
    assert found.value == pytest.approx(known.value)
    assert found.high - found.low == pytest.approx(known.high - known.low, rel=0.35)  # of 20 groups: 16 % by chance


def test_students_interval_of_the_tables():
    """97.5 % points: 2.776 for 4 degrees of freedom, 2.093 for 19."""
    for count, point in ((5, 2.776), (20, 2.093)):
        values = np.array([-1.0, 1.0] * (count // 2) + [0.0] * (count % 2))
        half = point * values.std(ddof=1) / np.sqrt(count)
        assert mean_estimate(values).high == pytest.approx(half, rel=0.01)
    assert paired_difference(np.ones(3, bool), np.ones(3, bool)).value == 0
