"""A warning about a model that answers no better than chance: then the labels or the preprocessing are wrong."""

from __future__ import annotations

from mbn_deploy.verify.evaluate import Accuracy


def chance_level_warning(accuracy: Accuracy, classes: int) -> str | None:
    """Return a warning if the Keras model's own top-1 may be as low as chance, 1 / `classes`, else None.

    It may be if the lower end of top-1's confidence interval does not lie above chance. `accuracy` is the Keras
    model's, not an exported file's.
    """
    chance = 1 / classes
    if classes < 2 or accuracy.top1.low > chance:
        return None
    return (
        f"Keras itself is right on {100 * accuracy.top1.value:.1f} % of {accuracy.images} images, and a guess on "
        f"{100 * chance:.3g} %: are the labels in the order of the model's classes, and do --preprocess and --resize "
        "match the training?"
    )
