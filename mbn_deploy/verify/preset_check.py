"""Find a preprocessing that contradicts the model: other presets are tried on some images, and a better one is named.

With labels, presets are compared by the images that one of two gets right and the other wrong. Without, by how much an
answer tells about the image (the mutual information of answers and images): a network whose input is squeezed into a
corner of its range answers the same to everything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from math import comb

import numpy as np
import numpy.typing as npt

from mbn_deploy.arrays import Array, Doubles, Floats, Pixels
from mbn_deploy.manifest import PREPROCESS_MODES, Preprocess
from mbn_deploy.verify.measures.measure import Measure
from mbn_deploy.verify.scores import LEAST_PROBABILITY, floored_probabilities, sigmoid_of

TRIED, TRIED_UNLABELLED = 64, 32  # images
# The probability that a preset that is no better wins by as much, over all presets that are tried.
SIGNIFICANCE = 0.01
# Without labels, a preset is better if its answers tell this many nats more about the images, and those of the chosen
# preprocessing at most this share of it. Trained MobileNets tell 0.9 to 2.1 nats about 64 photographs or digits with
# the preset of their training, and at most half of it with one of another range.
TELLS_MORE = 0.3
TELLS_LITTLE = 0.5

Predict = Callable[[Preprocess, Pixels], Floats]


@dataclass(frozen=True)
class BetterPreset:
    """A preset that suits the model better than the given preprocessing.

    `ours` and `theirs` are the shares of `images` that are answered rightly with the given preprocessing and with the
    preset; without labels (`labelled` is false) how much the answers tell about the images, in nats.
    """

    name: str
    images: int
    ours: float
    theirs: float
    labelled: bool

    def __str__(self) -> str:
        """Say which preset is better, with both figures."""
        if self.labelled:
            figures = f"is right on {100 * self.theirs:.1f} % of {self.images} images, the chosen preprocessing on "
            figures += f"{100 * self.ours:.1f} %"
        else:
            figures = (
                f"tells {self.images} images apart ({self.theirs:.2f} nats of information), the chosen preprocessing "
                f"hardly ({self.ours:.2f})"
            )
        return f"with --preprocess {self.name} the Keras model {figures}: does --preprocess match the training?"


def better_preset(
    predict: Predict, given: Preprocess, pixels: Pixels, truth: Array | None, measure: Measure
) -> BetterPreset | None:
    """Return the preset that is clearly better than the given preprocessing of a Keras model's input, or None.

    Args:
        predict: returns the scores (N, outputs) of the Keras model for pixels that are normalized in a given way.
        given: the chosen preprocessing of the Keras model's input.
        pixels: uint8 (N, H, W, C), red first; at most `TRIED` images say enough.
        truth: the right answers to them, see `Dataset.truth`; None if they are unknown.
        measure: what the answers mean. Only answers that can be right or wrong are compared.
    """
    if measure.answers.meaning not in ("classes", "labels", "binary") or len(pixels) < 2:
        return None
    trial = _Trial(predict, given, dict(_other_presets(given, pixels.shape[-1])), pixels, measure)
    return trial.by_information() if truth is None else trial.by_labels(truth)


def sample(count: int, most: int = TRIED) -> npt.NDArray[np.int64]:
    """Return the numbers of at most `most` of `count` images, evenly spread: data sets are sorted by class."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))


def _other_presets(given: Preprocess, channels: int) -> Iterable[tuple[str, Preprocess]]:
    for name, (mean, std, order) in PREPROCESS_MODES.items():
        if channels == 1 and (len(set(mean)) > 1 or len(set(std)) > 1):
            continue
        preset = replace(given, mean=mean[:channels], std=std[:channels], channels=order)
        if preset != given:
            yield name, preset


@dataclass(frozen=True)
class _Trial:
    """A preprocessing and others by name, the images that they are tried on, and the model that answers."""

    predict: Predict
    given: Preprocess
    others: dict[str, Preprocess]
    pixels: Pixels
    measure: Measure

    def by_labels(self, truth: Array) -> BetterPreset | None:
        """Return the preset that is right most often, if chance does not explain it."""
        ours = self._right(self.given, truth)
        theirs = {name: self._right(preset, truth) for name, preset in self.others.items()}
        name = max(theirs, key=lambda each: theirs[each].sum())
        gained, lost = int((theirs[name] & ~ours).sum()), int((ours & ~theirs[name]).sum())
        if _sign_test(gained, lost) * len(theirs) > SIGNIFICANCE:
            return None
        return BetterPreset(name, len(ours), float(ours.mean()), float(theirs[name].mean()), labelled=True)

    def by_information(self) -> BetterPreset | None:
        """Return the preset whose answers tell most about the images, if those of the given one tell little."""
        ours = self._information(self.given)
        theirs = {name: self._information(preset) for name, preset in self.others.items()}
        name = max(theirs, key=lambda each: round(theirs[each], 1))  # of equal ones the first, which is the most usual
        if theirs[name] - ours < TELLS_MORE or ours > TELLS_LITTLE * theirs[name]:
            return None
        return BetterPreset(name, len(self.pixels), ours, theirs[name], labelled=False)

    def _right(self, preprocess: Preprocess, truth: Array) -> Array:
        right = self.measure.right(self.measure.columns(self.predict(preprocess, self.pixels), None, 0), truth)
        return np.asarray(right, bool)

    def _information(self, preprocess: Preprocess) -> float:
        return information(self.predict(preprocess, self.pixels), self.measure)


def _sign_test(gained: int, lost: int) -> float:
    """Return the probability of at least `gained` heads in `gained + lost` throws of a coin (McNemar's exact test)."""
    throws = gained + lost
    return sum(comb(throws, heads) for heads in range(gained, throws + 1)) * 0.5**throws


def information(scores: Floats, measure: Measure) -> float:
    """Return the mutual information of answers and images, in nats; of independent labels, the sum of theirs."""
    kind = measure.answers.scores
    if measure.answers.meaning == "classes":
        p = floored_probabilities(scores, kind)
        distributions = [] if p is None else [p]
    else:
        distributions = [np.stack([1 - p, p], axis=1) for p in sigmoid_of(scores, kind).T]
    return sum((float(_entropy(p.mean(0, keepdims=True))[0] - _entropy(p).mean()) for p in distributions), 0.0)


def _entropy(p: Floats) -> Doubles:
    wide = np.maximum(p.astype(np.float64), LEAST_PROBABILITY)
    entropy: Doubles = -(wide * np.log(wide)).sum(1)
    return entropy
