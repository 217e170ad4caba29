"""Trains the networks of the demo and writes what ships with the package: weights and digits.

    .venv/bin/python scripts/train_demo.py [MODEL ...]

Data: scikit-learn's handwritten digits (1797 images of 8 x 8 pixels). The split is the permutation of
`numpy.random.default_rng(SPLIT_SEED)`: the first 500 images are held back and never seen in training,
the other 1297 are trained on; 200 of those are the calibration images. Nothing is chosen by looking at
the held-back images: the number of epochs is fixed, there is no early stopping, and one run is kept.
On one machine with one TensorFlow version the same seed gives the same bytes.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from mbn_deploy.demo.digits import DIGITS_FILE, Digits
from mbn_deploy.demo.networks import DEMO_SPECS, weights_name
from mbn_deploy.models.layers import Spec

FOLDER = Path(__file__).parent.parent / "mbn_deploy" / "demo"
SPLIT_SEED = 0
TRAINING_SEED = 0
HELD_BACK = 500
CALIBRATION = 200
EPOCHS = 80
BATCH = 32
WORTH_PACKING = 2000  # values: a packed array costs an index
SHIFT = 2  # pixels of 32, in each direction


def split() -> tuple[Digits, Digits]:
    """(training, held back)."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    levels, digits = bunch.images.astype(np.uint8), bunch.target.astype(np.uint8)
    order = np.random.default_rng(SPLIT_SEED).permutation(len(digits))
    held, train = order[:HELD_BACK], order[HELD_BACK:]
    return Digits(levels[train], digits[train]), Digits(levels[held], digits[held])


def pixels(digits: Digits) -> np.ndarray:
    """(N, 32, 32, 3) in [0, 255]."""
    grey = np.stack([np.asarray(image, np.float32) for image in digits.pictures()])
    return np.repeat(grey[..., None], 3, axis=-1)


def shifted(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Each image moved by up to SHIFT pixels; what comes in from outside is paper (0)."""
    height, width = images.shape[1:3]
    padded = np.pad(images, ((0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT), (0, 0)))
    places = rng.integers(0, 2 * SHIFT + 1, (len(images), 2))
    return np.stack([image[y : y + height, x : x + width] for image, (y, x) in zip(padded, places, strict=True)])


def train(spec: Spec, images: np.ndarray, digits: np.ndarray) -> Any:
    """Train and return a Keras model."""
    import keras

    from mbn_deploy.models.build import build_model

    keras.utils.set_random_seed(TRAINING_SEED)
    model = build_model(spec)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.9  # the networks' own 0.99 and 0.999 are for a hundred times as many steps
    steps = EPOCHS * -(-len(images) // BATCH)
    rate = keras.optimizers.schedules.CosineDecay(2e-3, steps)
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
    rng = np.random.default_rng(TRAINING_SEED)
    for _ in range(EPOCHS):
        history = model.fit(normalized(spec, shifted(images, rng)), digits, batch_size=BATCH, verbose=0)
    print(f"{spec.name}: last epoch's training accuracy {history.history['accuracy'][-1]:.4f}", file=sys.stderr)
    return model


def normalized(spec: Spec, images: np.ndarray) -> np.ndarray:
    """Scale images to the network's input: V3 rescales inside."""
    return images if spec.network.rescaling else images / 127.5 - 1


def save(model: Any, path: Path) -> None:
    """Save weights as Keras lays them out, in a small file that holds no times."""
    import h5py

    plain = path.with_name("plain.weights.h5")
    model.optimizer = None  # its state is twice the weights
    model.save_weights(plain)
    creation = h5py.h5p.create(h5py.h5p.FILE_CREATE)
    creation.set_obj_track_times(False)
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    # Groups as HDF5 1.10 writes them take a third of the bytes of the older ones, which Keras writes.
    access.set_libver_bounds(h5py.h5f.LIBVER_V18, h5py.h5f.LIBVER_V110)
    made = h5py.h5f.create(bytes(path), h5py.h5f.ACC_TRUNC, creation, access)
    with h5py.File(plain) as source, h5py.File(made) as target:
        _copy(source, target)
    plain.unlink()


def _copy(source: Any, target: Any) -> None:
    import h5py

    creation = h5py.h5p.create(h5py.h5p.GROUP_CREATE)
    creation.set_obj_track_times(False)
    target.attrs.update(source.attrs)
    for name, item in source.items():
        if isinstance(item, h5py.Group):
            _copy(item, h5py.Group(h5py.h5g.create(target.id, name.encode(), gcpl=creation)))
            continue
        large = {"compression": "gzip", "shuffle": True, "chunks": item.shape} if item.size > WORTH_PACKING else {}
        target.create_dataset(name, data=item[()], track_times=False, **large)


def main() -> None:
    """Train the demo's networks and write their weights."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("models", nargs="*", default=list(DEMO_SPECS), help=", ".join(DEMO_SPECS))
    names = parser.parse_args().models
    import tensorflow as tf

    tf.config.experimental.enable_op_determinism()
    training, held_back = split()
    np.savez_compressed(
        FOLDER / DIGITS_FILE,
        calibration=training.levels[:CALIBRATION],
        calibration_digits=training.digits[:CALIBRATION],
        held_back=held_back.levels,
        held_back_digits=held_back.digits,
    )
    for name in names:
        spec, start = DEMO_SPECS[name], time.monotonic()
        model = train(spec, pixels(training), training.digits)
        path = FOLDER / weights_name(name)
        save(model, path)
        scores = model.predict(normalized(spec, pixels(held_back)), verbose=0)
        accuracy = (scores.argmax(-1) == held_back.digits).mean()
        print(
            f"{spec.name}: held-back accuracy {accuracy:.4f} of {len(held_back)}, "
            f"{path.stat().st_size} bytes, {time.monotonic() - start:.0f} s"
        )


if __name__ == "__main__":
    main()
