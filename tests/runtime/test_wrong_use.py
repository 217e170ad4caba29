"""Wrong types and counts from Python, copies of a classifier, and processes that are forked."""

import copy
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import numpy as np
import pytest
import runtime_models as models

from mbn_deploy.errors import UsageError
from mbn_deploy.runtime import Classifier, ClassifierPool

PIXELS = models.pictures(1)[0]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    file = tmp_path_factory.mktemp("wrong") / "tiny.tflite"
    file.write_bytes(models.float_tflite())
    return file


@pytest.fixture(scope="module")
def classifier(path):
    with Classifier.open(path, threads=1, isolate=False) as opened:
        yield opened


@pytest.mark.parametrize("kind", [Classifier, ClassifierPool])
@pytest.mark.parametrize(
    "option",
    [
        *({"threads": wrong} for wrong in ("2", True, 2.0, 0, -1, 10**6, 10**30)),
        *({name: 3} for name in ("labels", "preprocess", "precision", "resize", "scores", "backend")),
        {"isolate": "yes"},
    ],
)
def test_an_option_of_a_wrong_type_is_named(path, kind, option):
    with pytest.raises(UsageError, match=next(iter(option))):
        kind.open(path, **option)


@pytest.mark.parametrize("wrong", [None, 5, ["a.tflite"]])
def test_a_path_that_is_none(wrong):
    with pytest.raises(UsageError, match="path"):
        Classifier.open(wrong)


@pytest.mark.parametrize("wrong", ["2", True, 0, -3, 10**6])
def test_a_pool_of_no_sensible_size(path, wrong):
    with pytest.raises(UsageError, match=r"size.*1024"):
        ClassifierPool.open(path, size=wrong)


@pytest.mark.parametrize("wrong", ["5", True, 0, 5.0, 10**12])
def test_a_number_of_classes_that_is_none(classifier, wrong):
    for method in (classifier.classify, classifier.answer, classifier.answer_stream):
        with pytest.raises(UsageError, match="top_k"):
            method(PIXELS, wrong)


def test_numbers_of_numpy_are_numbers(classifier):
    assert len(classifier.classify(PIXELS, np.int64(2))) == 2
    assert classifier.classify(PIXELS, threshold=np.float32(0))


@pytest.mark.parametrize("wrong", ["0.5", [1], True])
def test_a_threshold_that_is_no_number(classifier, wrong):
    with pytest.raises(UsageError, match="threshold"):
        classifier.classify(PIXELS, threshold=wrong)


@pytest.mark.parametrize("wrong", [None, 5, [1, 2], object()])
def test_a_picture_that_is_none(classifier, wrong):
    with pytest.raises(UsageError):
        classifier.classify(wrong)


@pytest.mark.parametrize("option", ["workers", "ahead"])
def test_counts_of_a_stream(classifier, option):
    for wrong in (True, "2", 0, 10**12):
        with pytest.raises(UsageError, match=option):
            classifier.classify_stream([PIXELS], **{option: wrong})


@pytest.mark.parametrize("copied", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_classifier_is_not_copied(classifier, copied):
    with pytest.raises(UsageError, match="copied"):
        copied(classifier)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize("kind", [Classifier, ClassifierPool])
def test_a_forked_process_says_that_it_cannot_classify(path, kind):
    with kind.open(path, threads=1, isolate=False) as opened, ThreadPoolExecutor(2) as others:
        over = Event()
        running = [others.submit(lambda: [opened.classify(PIXELS) for _ in iter(over.is_set, True)]) for _ in range(2)]
        for _ in range(20):  # some of these forks meet a running inference
            child = os.fork()
            if child == 0:
                try:
                    opened.classify(PIXELS)
                except UsageError:
                    opened.close()
                    os._exit(7)
                os._exit(1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        over.set()
        assert all(each.result() is not None for each in running)
