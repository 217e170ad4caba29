"""Answers that are no better than guesses: then something that was said of the model or its pictures is wrong."""

from __future__ import annotations

from mbn_deploy.verify.evaluate import Accuracy


def guessing(accuracy: Accuracy, classes: int) -> str | None:
    """What to look at where the model itself may be right no more often than a guess, which is at 1 / `classes`.

    `None` where it surely knows more: where the lower end of top-1's interval lies above that.
    """
    chance = 1 / classes
    if classes < 2 or accuracy.top1.low > chance:
        return None
    return (
        f"Keras itself is right on {100 * accuracy.top1.value:.1f} % of {accuracy.images} images, and a guess on "
        f"{100 * chance:.3g} %: are the labels in the order of the model's classes, and do --preprocess and --resize "
        "say what was done in training?"
    )
