"""What is suspicious about calibration images: each warning has a set that earns it and one that does not."""

import io
from pathlib import Path

import numpy as np
import pytest
from export_models import SIZE, small_model, write_pictures
from PIL import Image

from mbn_deploy.demo.digits import shipped
from mbn_deploy.export.from_keras.convert import graph_from_keras
from mbn_deploy.graph.fold import fold
from mbn_deploy.manifest import Preprocess
from mbn_deploy.pipeline.export import export_model
from mbn_deploy.quantize.calibration import load_calibration
from mbn_deploy.quantize.calibration_checks import (
    check_images,
    dominant_folder,
    near_duplicates,
    thumbnail,
    unsteady_ranges,
)
from mbn_deploy.quantize.ranges import ChannelRange, observe

SHARED = Path(__file__).parents[3] / "shared"


def pictures(count, seed=0, side=40):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, 5, 5, 3), np.uint8)
    return np.stack([np.asarray(Image.fromarray(c).resize((side, side), Image.Resampling.BICUBIC)) for c in coarse])


def names(count, folders=1):
    return [f"{i % folders}/{i:03}.png" for i in range(count)]


def saved_again(image):
    data = io.BytesIO()
    Image.fromarray(np.clip(image * 1.05 + 6, 0, 255).astype(np.uint8)).save(data, "JPEG", quality=60)
    return np.asarray(Image.open(data))


def test_different_pictures_earn_no_warning():
    assert check_images(pictures(40), names(40, 4)) == ()


def test_one_picture_saved_again_and_again_is_seen():
    images = pictures(20)
    again = np.stack([saved_again(image) for image in images[:6]])
    (found,) = check_images(np.concatenate([images, again]), [f"{i}.png" for i in range(26)])
    assert found.startswith("6 of 26 calibration images")
    assert "(0.png and 20.png, 1.png and 21.png" in found
    assert check_images(np.concatenate([images, again[:1]]), [f"{i}.png" for i in range(21)]) == ()  # one does no harm


@pytest.mark.parametrize(
    ("counts", "warned"), [([20, 20], False), ([36, 4], False), ([38, 2], True), ([26, 4, 5, 5], True), ([40], False)]
)
def test_most_images_of_one_class(counts, warned):
    listed = [f"class {at}/{i}.png" for at, count in enumerate(counts) for i in range(count)]
    found = check_images(pictures(40), listed)
    assert bool(found) == warned
    if warned:
        assert f"'class 0', one of {len(counts)}" in found[0]
    assert check_images(pictures(40), [*listed[:-1], "loose.png"]) == ()  # folders that hold a part say nothing


def seen(drift):
    return ChannelRange(*(np.zeros(3) for _ in range(4)), drift)


def test_ranges_that_depend_on_which_images_came():
    assert unsteady_ranges({"a": seen(0.3), "b": seen(0.99)}) == ()
    (found,) = unsteady_ranges({"a": seen(1.2), "b": seen(0.1), "c": seen(4.0)})
    assert found.startswith("2 of 3 tensors")
    assert "(c, a)" in found


def test_halves_are_observed_in_the_one_pass():
    graph = fold(graph_from_keras(small_model("mobilenet_v2")).graph)
    base = (pictures(8, side=SIZE).astype(np.float32) - 127.5)[:, None]
    steady = observe(graph, iter(base / 255), 8)
    wild = observe(graph, (image / 255 * (1 + 9 * (at % 2)) for at, image in enumerate(base)), 8)
    first = graph.ops[0].output
    assert steady[first].drift < 1
    assert wild[first].drift > 1
    assert first in unsteady_ranges(wild)[0]
    assert observe(graph, iter(base[:1]), 1)[first].drift == 0  # one image has no halves


def test_near_pictures_are_those_that_correlate():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 200, (21, 32, 32, 3)).astype(np.uint8)
    names = [f"{i}.png" for i in range(21)]
    assert near_duplicates(pixels, names) == ()
    assert np.linalg.norm(thumbnail(pixels[0])) == pytest.approx(1)
    assert abs(thumbnail(pixels[0]).sum()) < 1e-4
    assert thumbnail(np.zeros((8, 8, 3), np.uint8)).tolist() == [0] * 256
    pixels[7] = pixels[2] + 30  # brighter
    assert near_duplicates(pixels, names) == ()  # one of 21 is let pass
    assert near_duplicates(pixels[:20], names[:20]) == ()  # and just so one of 20
    pixels[20] = pixels[3] // 2
    (text,) = near_duplicates(pixels, names)
    assert text.startswith("2 of 21 calibration images")
    assert "(2.png and 7.png, 3.png and 20.png)" in text
    pixels[20] = pixels[2] + 10
    (text,) = near_duplicates(pixels, names)
    assert "(2.png and 7.png, 2.png and 20.png)" in text  # the first of all that are alike


def test_a_small_grey_picture_is_the_right_way_round():
    image = np.zeros((32, 32, 3), np.uint8)
    image[:, 16:] = [30, 60, 90]
    np.testing.assert_allclose(
        thumbnail(image).reshape(16, 16), np.where(np.arange(16) < 8, -1, 1)[None] / 16 * np.ones((16, 1))
    )


def test_sub_folders_that_hold_too_much():
    assert dominant_folder(["a/1"] * 10) == ()
    assert dominant_folder(["a/1"] * 9 + ["b/1"]) == ()  # 0.9 of two folders is the last that is taken
    assert "91%" in dominant_folder(["a/1"] * 10 + ["b/1"])[0]
    assert dominant_folder(["a/1"] * 6 + ["b/1"] * 2 + ["c/1"] * 2) == ()
    assert "60%" in dominant_folder(["a/1"] * 6 + ["b/1", "c/1", "d/x/y", "d/2"])[0]
    assert dominant_folder(["a/1"] * 10 + ["b/1", "top"]) == ()
    assert dominant_folder(["a/1"] * 12 + ["b/1"] * 5 + ["c/1"] * 4 + ["d/1"] * 4) == ()  # less than half


def test_export_shows_what_the_linter_says(tmp_path):
    folder = write_pictures(tmp_path / "photos", 16, side=SIZE)
    for path in sorted(folder.iterdir())[:4]:
        with Image.open(path) as image:
            image.convert("RGB").point(lambda v: min(255, v + 4)).save(path.with_name(f"again-{path.stem}.png"))
    result = export_model(
        small_model("mobilenet_v1"), tmp_path / "out", formats=("tflite",), precisions=("int8",), resize="squash",
        calibrate=folder,
    )  # fmt: skip
    assert any(warning.startswith("4 of 20 calibration images look like") for warning in result.warnings)


def test_shipped_digits_are_no_duplicates(tmp_path):
    shipped()[0].write(tmp_path / "digits", by_class=True)
    (grey,) = load_calibration(tmp_path / "digits", (32, 32), Preprocess(resize="squash")).warnings
    assert "200 of 200" in grey
    assert "greyscale" in grey


@pytest.mark.shared
@pytest.mark.skipif(not (SHARED / "imagenet").is_dir(), reason="no ../shared/imagenet")
def test_photographs_are_no_duplicates():
    found = load_calibration(SHARED / "imagenet" / "calibration", (96, 96), Preprocess(), count=300)
    assert [w for w in found.warnings if "greyscale" not in w] == []
