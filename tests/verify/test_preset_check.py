"""A preset is named only where it is clearly better, for every meaning of answers that can be right or wrong."""

import numpy as np
import pytest

from mbn_deploy.answers import Answers
from mbn_deploy.manifest import Preprocess
from mbn_deploy.verify.measures.choose import measure_for
from mbn_deploy.verify.preset_check import better_preset, sample

RAW, TF = Preprocess.parse("raw"), Preprocess.parse("tf")


def images(count):
    """Pictures of one grey level each, dark ones and bright ones in turn, and which are bright."""
    levels = np.where(np.arange(count) % 2, 200, 40) + np.random.default_rng(0).integers(-30, 30, count)
    return np.tile(levels.astype(np.uint8)[:, None, None, None], (1, 2, 2, 3)), np.arange(count) % 2


def brightness(preprocess, pixels):
    """Scores of a model that wants pixels in [0, 255]: the logit of a bright picture."""
    values = (pixels.astype(np.float32) - np.asarray(preprocess.mean)) / np.asarray(preprocess.std)
    return ((values.mean((1, 2, 3)) - 120) / 5)[:, None].astype(np.float32)


def two_classes(preprocess, pixels):
    logit = brightness(preprocess, pixels)
    return np.concatenate([-logit, logit], axis=1)


CASES = {
    "classes": (two_classes, measure_for(Answers("classes", "logits"), ("dark", "bright"), 64, 0.5)),
    "binary": (brightness, measure_for(Answers("binary", "logits"), ("dark", "bright"), 64, 0.5)),
}


@pytest.mark.parametrize("meaning", CASES)
@pytest.mark.parametrize("labelled", [True, False])
def test_a_wrong_preset_is_found(meaning, labelled):
    predict, measure = CASES[meaning]
    pixels, truth = images(64)
    found = better_preset(predict, TF, pixels, truth if labelled else None, measure)
    assert found is not None
    assert (found.name, found.images, found.labelled) == ("raw", 64, labelled)
    assert found.theirs > found.ours
    assert "--preprocess raw" in str(found)


@pytest.mark.parametrize("meaning", CASES)
@pytest.mark.parametrize("labelled", [True, False])
def test_the_right_one_is_left_alone(meaning, labelled):
    predict, measure = CASES[meaning]
    pixels, truth = images(64)
    assert better_preset(predict, RAW, pixels, truth if labelled else None, measure) is None


def test_a_few_images_prove_nothing():
    predict, measure = CASES["classes"]
    pixels, truth = images(8)
    assert better_preset(predict, TF, pixels, truth, measure) is None


def test_values_are_not_compared():
    pixels, _ = images(64)
    measure = measure_for(Answers("values", "none"), ("age",), 64, 0.5)
    assert better_preset(brightness, TF, pixels, None, measure) is None


@pytest.mark.parametrize("count", [1, 5, 64, 65, 1000])
def test_a_sample_is_spread_evenly(count):
    numbers = sample(count)
    assert len(numbers) == min(count, 64)
    assert (numbers[0], numbers[-1]) == (0, count - 1)
