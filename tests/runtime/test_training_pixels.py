"""Ways to resize that bear a library's name give that library's pixels: at most one level off, on 99.9 % of them."""

import io

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from mbn_deploy.errors import UsageError
from mbn_deploy.manifest import Preprocess
from mbn_deploy.runtime import images
from mbn_deploy.runtime.preprocess import load_pixels

# (width, height) of pictures and (height, width) of inputs: smaller, equal and larger, along one axis or both.
SIZES = [(57, 33), (32, 32), (17, 400), (300, 211), (64, 64), (1, 9), (640, 480), (33, 31), (599, 226), (545, 167)]
INPUTS = [(32, 32), (24, 40), (64, 48), (1, 1), (97, 32)]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Files of noise, with (height, width) of the input that each is resized to."""
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(1)
    made = []
    for size in INPUTS:
        (folder / f"{size[0]}x{size[1]}").mkdir()
        for number, (width, height) in enumerate(SIZES):
            path = folder / f"{size[0]}x{size[1]}" / f"{number}.png"
            Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)).save(path)
            made.append((path, size))
    return made


def share_of_equal(pairs):
    off = np.concatenate([np.abs(ours.astype(float) - theirs).ravel() for ours, theirs in pairs])
    return (off <= 1).mean()


@pytest.mark.parametrize(
    ("resize", "options"),
    [("keras", {}), ("keras-crop", {"crop_to_aspect_ratio": True}), ("keras-pad", {"pad_to_aspect_ratio": True})],
)
def test_image_dataset_from_directory(pictures, resize, options):
    theirs = {}
    for size in INPUTS:
        if resize == "keras-pad" and size == (1, 1):
            continue  # TensorFlow rounds a side down to 0 pixels
        folder = next(path.parent for path, other in pictures if other == size)
        loaded = keras.utils.image_dataset_from_directory(
            folder, labels=None, image_size=size, batch_size=1, shuffle=False, verbose=False, **options
        )
        theirs |= dict(zip(map(str, loaded.file_paths), (batch[0].numpy() for batch in loaded), strict=True))
    pairs = [
        (load_pixels(path, size, Preprocess(resize=resize)), theirs[str(path)])
        for path, size in pictures
        if str(path) in theirs and theirs[str(path)].any()
    ]
    assert len(pairs) > 35
    assert share_of_equal(pairs) == 1


def test_load_img(pictures):
    for path, size in pictures:
        theirs = np.asarray(keras.utils.load_img(path, target_size=size))
        np.testing.assert_array_equal(load_pixels(path, size, Preprocess(resize="keras-nearest")), theirs)


def test_load_img_that_keeps_the_proportions(pictures):
    preprocess = Preprocess(resize="keras-crop", filter="nearest")
    for path, size in pictures:
        width, height = images.stored_size(path)
        if min(width * size[0] // size[1], height * size[1] // size[0]):  # Keras cannot cut out 0 pixels
            theirs = np.asarray(keras.utils.load_img(path, target_size=size, keep_aspect_ratio=True))
            np.testing.assert_array_equal(load_pixels(path, size, preprocess), theirs)


def resize_and_center_crop(image, shorter, size):
    """`Resize(shorter)` and `CenterCrop(size)` as torchvision documents them: in Pillow, with its antialias."""
    width, height = image.size
    longer = int(shorter * max(width, height) / min(width, height))
    image = image.resize((shorter, longer) if width <= height else (longer, shorter), Image.Resampling.BILINEAR)
    width, height = image.size
    if width < size[1] or height < size[0]:
        padded = Image.new("RGB", (max(width, size[1]), max(height, size[0])))
        padded.paste(image, (max(0, (size[1] - width) // 2), max(0, (size[0] - height) // 2)))
        image = padded
    left, top = round((image.width - size[1]) / 2), round((image.height - size[0]) / 2)
    return image.crop((left, top, left + size[1], top + size[0]))


@pytest.mark.parametrize(("shorter", "side"), [(256, 224), (232, 224), (32, 32)])
def test_torchvision(shorter, side):
    rng = np.random.default_rng(2)
    pairs = []
    for width, height in SIZES:
        image = Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))
        theirs = np.asarray(resize_and_center_crop(image, shorter, (side, side)))
        preprocess = Preprocess(resize="torchvision", crop_fraction=side / shorter)
        pairs.append((load_pixels(image, (side, side), preprocess), theirs))
    assert share_of_equal(pairs) >= 0.999


def test_torchvision_pads_an_input_that_is_wider_than_the_picture():
    image = Image.fromarray(np.random.default_rng(3).integers(0, 256, (90, 50, 3), np.uint8))
    ours = load_pixels(image, (32, 64), Preprocess(resize="torchvision", crop_fraction=1.0))
    theirs = np.asarray(resize_and_center_crop(image, 32, (32, 64)))
    assert share_of_equal([(ours, theirs)]) == 1
    assert not ours[:, :16].any()


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L"])
def test_transparency_is_dropped_as_the_loaders_do(mode):
    rng = np.random.default_rng(4)
    image = Image.fromarray(rng.integers(0, 256, (16, 16, 4), np.uint8), "RGBA")
    made = image.convert("RGB").quantize(16) if mode == "P" else image.convert(mode)
    data = encoded(made, "PNG", **({"transparency": 3} if mode == "P" else {}))
    tensorflow = tf.image.decode_image(data, channels=3).numpy()
    for resize in ("keras", "keras-crop", "keras-pad", "keras-nearest"):
        np.testing.assert_array_equal(load_pixels(data, (16, 16), Preprocess(resize=resize)), tensorflow)
    pillow = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    once = Preprocess(resize="torchvision", crop_fraction=1)
    np.testing.assert_array_equal(load_pixels(data, (16, 16), once), pillow)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("resize", ["keras", "keras-crop", "keras-pad", "torchvision"])
def test_a_turned_picture_gives_the_pixels_of_an_upright_one(orientation, resize):
    """No loader looks at EXIF, but the picture that a person sees is the upright one."""
    back = {6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
    upright = Image.fromarray(np.random.default_rng(5).integers(0, 256, (61, 84, 3), np.uint8))
    stored = upright
    if orientation in images.UPRIGHT:
        stored = upright.transpose(back.get(orientation, images.UPRIGHT[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    ours = load_pixels(encoded(stored, "PNG", exif=exif), (32, 32), Preprocess(resize=resize))
    plain = load_pixels(upright, (32, 32), Preprocess(resize=resize))
    assert np.abs(ours.astype(int) - plain).max() <= 1


@pytest.mark.parametrize("resize", ["keras", "keras-nearest", "torchvision"])
def test_jpegs_are_decoded_in_full(resize):
    image = Image.fromarray(np.random.default_rng(6).integers(0, 256, (600, 800, 3), np.uint8))
    data = encoded(image, "JPEG", quality=90)
    preprocess = Preprocess(resize=resize)
    decoded = Image.open(io.BytesIO(data)).convert("RGB")
    np.testing.assert_array_equal(load_pixels(data, (32, 32), preprocess), load_pixels(decoded, (32, 32), preprocess))


def test_grey():
    pixels = np.random.default_rng(7).integers(0, 256, (40, 50, 1), np.uint8)
    theirs = tf.image.resize(pixels, (32, 24)).numpy()
    ours = load_pixels(pixels, (32, 24), Preprocess(resize="keras"), channels=1)
    assert ours.shape == (32, 24, 1)
    assert share_of_equal([(ours, theirs)]) == 1


def test_keras_has_no_filters_of_pillow():
    with pytest.raises(UsageError, match="keras"):
        Preprocess(resize="keras", filter="lanczos")
