"""How pictures are resized where nobody says it: as the loader that most Keras models were trained with, and said."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from mbn_deploy.manifest import RESIZE_ABOUT, Preprocess, Resize
from mbn_deploy.pipeline.options import ExportOptions

ResizeFrom = Literal["option", "model", "assumed"]

ASSUMED: Resize = "keras"
ASSUMED_RESIZE = (
    f"nothing says how pictures were resized in training: --resize {ASSUMED} is assumed ({RESIZE_ABOUT[ASSUMED]}); "
    "if another loader was used, answers change: give --resize keras-crop, keras-pad, keras-nearest (load_img, "
    "ImageDataGenerator), torchvision, squash, crop or letterbox"
)


def choose_resize(
    preprocess: Preprocess, options: ExportOptions, *, inside: Resize | None, known: bool
) -> tuple[Preprocess, ResizeFrom]:
    """Return the preprocessing with a way to resize, and who chose it.

    Options that were given one by one are not applied here, see `ExportOptions.with_geometry`. A `Preprocess` that was
    given as a whole says how to resize. `--crop-fraction` alone asks for a crop. A model that takes pictures of any
    size may resize them itself (`inside`), and the files do the same. ImageNet models (`known`, those of `build`) are
    measured on the centre of pictures.
    """
    if options.resize is not None or options.crop_fraction is not None or isinstance(options.preprocess, Preprocess):
        return preprocess, "option"
    if inside is not None:
        return replace(preprocess, resize=inside), "model"
    if known:
        return preprocess, "model"
    return replace(preprocess, resize=ASSUMED), "assumed"
