"""Build, export, quantize, measure and run models on data that ships with the package."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from mbn_deploy.bundle.open import Bundle
from mbn_deploy.demo.digits import CLASSES, shipped
from mbn_deploy.demo.networks import DEMO_SPECS, weights_name
from mbn_deploy.errors import InputError, UsageError
from mbn_deploy.manifest import LABELS_NAME
from mbn_deploy.progress import Progress, silent
from mbn_deploy.runtime import Prediction

if TYPE_CHECKING:
    import keras

    from mbn_deploy.pipeline.export import ExportResult

DIGITS_FOLDER = "digits"
SHOWN = 5  # held-back pictures, of different digits, that are classified


@dataclass(frozen=True)
class Answer:
    """One held-back picture, the digit on it, and the int8 file's prediction."""

    picture: Path
    digit: str
    prediction: Prediction


@dataclass(frozen=True)
class Pictures:
    """The paths of the calibration images, the held-back images (a folder for each digit), and a few of the latter."""

    calibration: Path
    held_back: Path
    labels: Path
    some: tuple[tuple[Path, str], ...]


def write_pictures(out: Path) -> Pictures:
    """Write the shipped digits as PNG files below `out`, in the layout of a user's own data.

    Raises:
        UsageError: `out` holds something that no earlier demo wrote.
        InputError: a file cannot be written.
    """
    _check_folder(out)
    calibration, held_back = shipped()
    root = out / DIGITS_FOLDER
    try:
        calibration.write(root / "calibration", by_class=False)
        paths = held_back.write(root / "held-back", by_class=True)
        labels = root / LABELS_NAME
        labels.write_text("\n".join(CLASSES) + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"{error.filename or out}: cannot be written: {error.strerror}") from error
    first: dict[str, Path] = {}
    for path, digit in zip(paths, held_back.digits, strict=True):
        first.setdefault(str(digit), path)
    some = tuple((path, digit) for digit, path in list(first.items())[:SHOWN])
    return Pictures(root / "calibration", root / "held-back", labels, some)


def demo_model(name: str) -> keras.Model:
    """Return the trained network `name` that ships with the package."""
    from mbn_deploy.models.api import build

    spec = DEMO_SPECS[name]
    with resources.as_file(resources.files(__package__) / weights_name(name)) as weights:
        return build(name, alpha=spec.alpha, size=spec.size, classes=spec.classes, weights=weights)


def export_demo(name: str, out: Path, pictures: Pictures, progress: Progress = silent) -> ExportResult:
    """Export the trained model `name` to a bundle below `out` and evaluate every file on the held-back digits."""
    from mbn_deploy.pipeline.export import export_model

    model = demo_model(name)
    return export_model(
        model,
        out / name,
        resize="squash",  # the pictures are square and of the input's size
        calibrate=pictures.calibration,
        evaluate=pictures.held_back,
        labels=pictures.labels,
        overwrite=True,
        progress=progress,
    )


def classify_some(bundle: Bundle, pictures: Pictures) -> list[Answer]:
    """Classify a few held-back pictures with the file that the runtime prefers, which is int8."""
    with bundle.open() as classifier:
        return [Answer(path, digit, classifier.classify(path, top_k=1)[0]) for path, digit in pictures.some]


def _check_folder(out: Path) -> None:
    if not out.exists():
        return
    if not out.is_dir():
        raise UsageError(f"{out} is a file; the demo needs a folder")
    foreign = sorted({path.name for path in out.iterdir()} - {DIGITS_FOLDER, *DEMO_SPECS})
    if foreign:
        raise UsageError(
            f"{out} holds something that no demo wrote ({foreign[0]}); choose another folder: --output DIR"
        )
