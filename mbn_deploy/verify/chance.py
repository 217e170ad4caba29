"""A warning about a model that answers no better than chance: then the labels or the preprocessing are wrong."""

from __future__ import annotations

from mbn_deploy.answers import Meaning
from mbn_deploy.verify.measures.measure import Accuracy


def chance_level_warning(accuracy: Accuracy, meaning: Meaning, classes: int) -> str | None:
    """Return a warning if the Keras model itself may be no better than chance, else None.

    It may be if the lower end of the confidence interval of its top-1 (of a binary model the area under its ROC curve,
    which does not depend on how many images are positive) does not lie above chance. Other meanings have no such level.

    Args:
        accuracy: the Keras model's, not an exported file's.
        meaning: what its answers mean.
        classes: number of classes; two of a binary model.
    """
    key = {"classes": "top1", "binary": "auc"}.get(meaning)
    figure, chance = accuracy.figures.get(key or ""), 1 / classes
    if classes < 2 or figure is None or figure.low > chance:
        return None
    share = accuracy.main.value
    guess = "a guess is right as often" if meaning == "binary" else f"a guess on {100 * chance:.3g} %"
    return (
        f"Keras itself is right on {100 * share:.1f} % of {accuracy.images} images, and {guess}: are the labels in the "
        "order of the model's classes, and do --preprocess and --resize match the training?"
    )
