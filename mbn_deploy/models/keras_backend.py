"""Import Keras with TensorFlow behind it, whatever the environment and `keras.json` say."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mbn_deploy.errors import MissingExtraError, UsageError

BACKEND, LAYOUT, FLOATS = "tensorflow", "channels_last", "float32"


def import_keras(purpose: str) -> Any:
    """Return the keras package, with TensorFlow as backend, channels last and float32.

    If nobody has imported Keras yet, these are chosen here; a setting of the user for training stays out of it. In a
    process that has imported Keras already they can only be looked at.

    Raises:
        MissingExtraError: Keras or TensorFlow is not installed; says what for (`purpose`).
        UsageError: Keras was imported with other settings; names what to set.
    """
    if "keras" in sys.modules:
        import keras

        _check(keras)
        return keras
    with _environment("KERAS_BACKEND", BACKEND):
        try:
            import keras
        except ImportError as error:
            raise MissingExtraError("keras", "export", purpose) from error
    keras.config.set_image_data_format(LAYOUT)
    keras.config.set_floatx(FLOATS)
    return keras


def _check(keras: Any) -> None:
    if keras.config.backend() != BACKEND:
        raise UsageError(
            f"Keras runs on {keras.config.backend()} in this process, and exports need TensorFlow. Set "
            f"KERAS_BACKEND={BACKEND} before Python starts, or save the model as .keras and export the file elsewhere"
        )
    if keras.config.image_data_format() != LAYOUT:
        raise UsageError(
            f"Keras is set to {keras.config.image_data_format()} in this process, and exports need {LAYOUT}: call "
            f"keras.config.set_image_data_format({LAYOUT!r}), or change image_data_format in keras.json"
        )


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    """Set a variable of this process during the block."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
