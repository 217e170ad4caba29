"""Images as the loader of the training makes them: read, decoded and resized by Keras and TensorFlow themselves.

Ours are the same up to rounding where the decoded pixels are, and differ in two points: TensorFlow decodes JPEG with a
faster, coarser inverse cosine transform than Pillow, and no loader turns a photograph upright.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from mbn_deploy.arrays import Floats
from mbn_deploy.errors import InputError
from mbn_deploy.manifest import Preprocess, Resize

_DIRECTORY = "image_dataset_from_directory"
LOADERS: dict[Resize, str] = {
    "keras": _DIRECTORY,
    "keras-crop": f"{_DIRECTORY}(crop_to_aspect_ratio=True)",
    "keras-pad": f"{_DIRECTORY}(pad_to_aspect_ratio=True)",
    "keras-nearest": "load_img",
}


def load_as_in_training(
    paths: Sequence[Path], size: tuple[int, int], preprocess: Preprocess, channels: int
) -> Iterator[Floats]:
    """Yield each image as the loader that `preprocess.resize` names gives it: float32 (height, width, channels).

    Args:
        paths: image files.
        size: (height, width) of the model's input.
        preprocess: a way to resize among `LOADERS`.
        channels: 1 or 3.

    Raises:
        InputError: names an image that the loader cannot read.
    """
    read = _load_img if preprocess.resize == "keras-nearest" else _decoded_by_tensorflow
    return (_translated(read, path, size, preprocess, channels) for path in paths)


_Read = Callable[[Path, tuple[int, int], Preprocess, int], object]


def _translated(read: _Read, path: Path, size: tuple[int, int], preprocess: Preprocess, channels: int) -> Floats:
    import tensorflow as tf

    try:
        return np.asarray(read(path, size, preprocess, channels), np.float32)
    except (tf.errors.OpError, OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path}: {LOADERS[preprocess.resize]} cannot read it: {reason}") from error


def _decoded_by_tensorflow(path: Path, size: tuple[int, int], preprocess: Preprocess, channels: int) -> object:
    """Do what `image_dataset_from_directory` does with a file (keras/src/utils/image_dataset_utils.py)."""
    import tensorflow as tf

    from mbn_deploy.models.keras_backend import import_keras

    keras = import_keras("to load images")
    image = tf.image.decode_image(tf.io.read_file(str(path)), channels=channels, expand_animations=False)
    if preprocess.resize == "keras-crop":
        return keras.preprocessing.image.smart_resize(image, size, interpolation=preprocess.filter)
    if preprocess.resize == "keras-pad":
        return tf.image.resize_with_pad(image, *size, method=preprocess.filter)
    return tf.image.resize(image, size, method=preprocess.filter)


def _load_img(path: Path, size: tuple[int, int], _preprocess: Preprocess, channels: int) -> object:
    from mbn_deploy.models.keras_backend import import_keras

    keras = import_keras("to load images")
    image = keras.utils.load_img(path, color_mode="grayscale" if channels == 1 else "rgb", target_size=size)
    return keras.utils.img_to_array(image, data_format="channels_last")
