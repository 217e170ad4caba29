"""Pictures of every kind to pixels; what cannot be read says so."""

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw

from mbn_deploy.errors import InputError, UnknownNameError, UsageError
from mbn_deploy.manifest import PREPROCESS_MODES, Preprocess
from mbn_deploy.runtime import images
from mbn_deploy.runtime.preprocess import load_pixels, normalize, per_channel

SQUASH, CROP, BOX = (Preprocess(resize=kind) for kind in ("squash", "crop", "letterbox"))
RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def scene(width=120, height=80):
    """A smooth picture with another colour in each corner."""
    small = Image.new("RGB", (2, 2))
    small.putdata([RED, GREEN, BLUE, (255, 255, 0)])
    image = small.resize((width, height), Image.Resampling.BICUBIC)
    ImageDraw.Draw(image).ellipse((width * 0.4, height * 0.3, width * 0.7, height * 0.9), fill=(250, 240, 230))
    return image


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def near(a, b, most):
    return np.abs(a.astype(int) - b.astype(int)).max() <= most


@pytest.mark.parametrize("resize", [SQUASH, CROP, BOX])
def test_all_kinds_of_source_agree(tmp_path, resize):
    image = scene()
    data = encoded(image)
    path = tmp_path / "a.png"
    path.write_bytes(data)
    expected = load_pixels(image, (32, 40), resize)
    assert expected.shape == (32, 40, 3)
    assert expected.dtype == np.uint8
    with path.open("rb") as file:
        for source in (path, str(path), data, bytearray(data), memoryview(data), file, np.asarray(image)):
            assert (load_pixels(source, (32, 40), resize) == expected).all()


def test_a_stream_that_cannot_seek():
    class Pipe:
        def __init__(self, data):
            self.read = io.BytesIO(data).read

    assert (load_pixels(Pipe(encoded(scene())), (32, 32), CROP) == load_pixels(scene(), (32, 32), CROP)).all()


def test_squash_is_pillows_resize():
    image = scene()
    for name, resample in (("bilinear", 2), ("bicubic", 3), ("nearest", 0), ("lanczos", 1)):
        got = load_pixels(image, (20, 30), Preprocess(resize="squash", filter=name))
        assert (got == np.asarray(image.resize((30, 20), resample))).all()


def test_crop_takes_the_centre_in_the_targets_proportions():
    image = Image.new("RGB", (100, 60), RED)
    image.paste(BLUE, (20, 0, 80, 60))  # the central square of the shorter side
    got = load_pixels(image, (30, 30), Preprocess(resize="crop", crop_fraction=1.0, filter="nearest"))
    assert (got == BLUE).all()
    image.paste(GREEN, (35, 15, 65, 45))  # its inner half
    assert (load_pixels(image, (30, 30), Preprocess(resize="crop", crop_fraction=0.5, filter="nearest")) == GREEN).all()
    wide = Image.new("RGB", (100, 100), RED)
    wide.paste(BLUE, (0, 25, 100, 75))
    got = load_pixels(wide, (10, 20), Preprocess(resize="crop", crop_fraction=1.0, filter="nearest"))
    assert (got == BLUE).all()


def test_crop_is_resize_then_crop_up_to_rounding():
    image = scene(300, 200)
    got = load_pixels(image, (112, 112), CROP)
    both = image.resize((192, 128), Image.Resampling.BILINEAR).crop((40, 8, 152, 120))
    assert near(got, np.asarray(both), 2)


def test_letterbox_keeps_proportions_on_black():
    got = load_pixels(Image.new("RGB", (100, 50), RED), (40, 40), BOX)
    assert (got[10:30] == RED).all()
    assert not got[:10].any()
    assert not got[30:].any()
    got = load_pixels(Image.new("RGB", (50, 100), RED), (40, 60), BOX)
    assert (got[:, 20:40] == RED).all()
    assert not got[:, :20].any()
    assert not got[:, 40:].any()
    got = load_pixels(Image.new("RGB", (100, 50), RED), (60, 40), BOX)
    assert (got[20:40] == RED).all()
    assert got.any(axis=(1, 2)).sum() == 20
    got = load_pixels(Image.new("L", (1, 1000), 255), (40, 40), BOX, channels=1)
    assert got.any(axis=(0, 2)).sum() == 1
    got = load_pixels(Image.new("L", (1000, 1), 255), (40, 40), BOX, channels=1)
    assert got.any(axis=(1, 2)).sum() == 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("resize", [SQUASH, CROP, BOX])
def test_exif_orientation_turns_the_picture_upright(orientation, kind, resize):
    upright = scene()
    back = {6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
    stored = upright
    if orientation in images.UPRIGHT:
        stored = upright.transpose(back.get(orientation, images.UPRIGHT[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}.get(kind, {})
    got = load_pixels(encoded(stored, kind, exif=exif, **options), (24, 36), resize)
    # JPEG is lossy; elsewhere the two passes of a resize round in another order.
    assert near(got, load_pixels(upright, (24, 36), resize), 12 if kind == "JPEG" else 2)


def test_the_users_image_is_left_alone():
    image = Image.open(io.BytesIO(encoded(scene(1600, 1200), "JPEG")))
    load_pixels(image, (32, 32), CROP)
    assert image.size == (1600, 1200)


GREY = np.linspace(0, 255, 32 * 32).astype(np.uint8).reshape(32, 32)


@pytest.mark.parametrize("mode", ["L", "P", "1", "LA", "I;16", "RGBA", "CMYK", "YCbCr", "HSV"])
def test_modes_become_rgb(mode, tmp_path):
    rgb = scene(32, 32)
    wide = Image.fromarray(GREY.astype(np.uint16) * 257)
    image = {"I;16": wide, "P": rgb.quantize(256)}.get(mode) or rgb.convert(mode)
    expected = {"I;16": np.stack([GREY] * 3, -1), "1": None}.get(mode, np.asarray(image.convert("RGB")))
    if mode == "1":
        expected = np.asarray(image.convert("L").convert("RGB"))
    assert near(load_pixels(image, (32, 32), SQUASH), expected, 0)


def test_16_bit_png_is_scaled_not_clipped():
    data = encoded(Image.fromarray(GREY.astype(np.uint16) * 257))
    assert (load_pixels(data, (32, 32), SQUASH, channels=1)[..., 0] == GREY).all()
    assert (load_pixels(data, (32, 32), SQUASH)[..., 2] == GREY).all()


def test_16_bit_arrays_are_scaled_and_rounded():
    values = np.array([[0, 128, 129, 65535]], np.uint16)
    assert load_pixels(values, (1, 4), SQUASH, channels=1).ravel().tolist() == [0, 0, 1, 255]
    assert load_pixels(np.full((4, 4, 3), 65535, np.uint16), (2, 2), SQUASH).min() == 255


@pytest.mark.parametrize("make", ["RGBA", "LA", "palette", "array", "grey array"])
def test_transparency_lies_on_white(make):
    image = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (0, 0, 4, 8))
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([0, 0, 0, 0, 0, 0])
    palette.paste(0, (0, 0, 4, 8))
    source = {
        "RGBA": encoded(image),
        "LA": encoded(image.convert("LA")),
        "palette": encoded(palette, transparency=1),
        "array": np.asarray(image),
        "grey array": np.asarray(image.convert("LA")),
    }[make]
    got = load_pixels(source, (8, 8), Preprocess(resize="squash", filter="nearest"))
    assert not got[:, :4].any()
    assert (got[:, 4:] == 255).all()


def test_cmyk_jpeg():
    got = load_pixels(encoded(scene().convert("CMYK"), "JPEG", quality=95), (32, 32), SQUASH)
    assert near(got, load_pixels(scene(), (32, 32), SQUASH), 40)


def test_grey_models_get_luma():
    got = load_pixels(scene(), (20, 20), SQUASH, channels=1)
    assert got.shape == (20, 20, 1)
    assert (got[..., 0] == np.asarray(scene().convert("L").resize((20, 20), 2))).all()


def test_bgr_turns_the_channels():
    bgr = Preprocess(resize="squash", channels="bgr")
    assert (load_pixels(scene(), (9, 9), bgr) == load_pixels(scene(), (9, 9), SQUASH)[..., ::-1]).all()
    array = np.asarray(scene(9, 9))
    assert (load_pixels(array, (9, 9), bgr) == array[..., ::-1]).all()


def test_an_array_of_the_models_size_is_taken_as_prepared():
    array = np.asarray(scene(30, 20))
    assert load_pixels(array, (20, 30), CROP) is array
    assert (load_pixels(array[..., 0], (20, 30), CROP, channels=1)[..., 0] == array[..., 0]).all()
    opaque = np.dstack([array, np.full((20, 30), 255, np.uint8)])
    assert (load_pixels(opaque, (20, 30), CROP) == array).all()
    assert not (load_pixels(Image.fromarray(array), (20, 30), CROP) == array).all()  # a picture is cropped


@pytest.mark.parametrize("resize", [SQUASH, CROP, BOX])
@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("size", [(1601, 1203), (4000, 3000)])
def test_large_jpegs_are_decoded_smaller_and_look_the_same(resize, orientation, size, monkeypatch):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(scene(*size), "JPEG", quality=92, exif=exif)
    decoded = []
    real = images.decode_smaller
    monkeypatch.setattr(
        images, "decode_smaller", lambda image, factor: decoded.append(real(image, factor)) or decoded[-1]
    )
    fast = load_pixels(data, (96, 96), resize)
    assert decoded[0] == (4 if size[0] == 4000 else 2)
    full = Image.open(io.BytesIO(data))  # a PIL image is decoded in full
    # Two roundings (the reduced decoding and the resize) and the chroma's other upsampling.
    assert np.abs(fast.astype(int) - load_pixels(full, (96, 96), resize)).mean() < 0.75


def test_small_jpegs_small_inputs_and_nearest_are_decoded_in_full(monkeypatch):
    asked = []
    monkeypatch.setattr(images, "decode_smaller", lambda image, factor: asked.append(factor) or 1)
    load_pixels(encoded(scene(999, 999), "JPEG"), (100, 100), SQUASH)
    load_pixels(encoded(scene(1600, 1600), "JPEG"), (100, 100), Preprocess(resize="squash", filter="nearest"))
    load_pixels(encoded(scene(1600, 1600), "JPEG"), (63, 64), SQUASH)
    load_pixels(encoded(scene(1000, 999), "JPEG"), (100, 100), SQUASH)
    load_pixels(encoded(scene(999, 1000), "JPEG"), (100, 100), SQUASH)
    load_pixels(encoded(scene(1000, 1000), "JPEG"), (100, 100), SQUASH)
    assert asked == [1, 1, 1, 1, 1, 2]


@pytest.mark.parametrize(("size", "factor"), [((80, 80), 4), ((80, 160), 2), ((160, 80), 2), ((81, 81), 2)])
def test_each_axis_keeps_five_pixels_to_each_of_the_result(size, factor, monkeypatch):
    asked = []
    monkeypatch.setattr(images, "decode_smaller", lambda image, factor: asked.append(factor) or 1)
    load_pixels(encoded(scene(1600, 1600), "JPEG"), size, SQUASH)
    assert asked == [factor]


def test_truncated_jpeg_names_the_file(tmp_path):
    path = tmp_path / "cut.jpg"
    data = encoded(scene(400, 300), "JPEG")
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match=r"cut\.jpg"):
        load_pixels(path, (32, 32), SQUASH)


@pytest.mark.filterwarnings("ignore:(Corrupt EXIF|Truncated|Metadata|Tag data):UserWarning")
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"])
def test_any_damage_is_an_input_error_or_a_picture(kind):
    data = encoded(scene(40, 30), kind)
    rng = np.random.default_rng(1)
    refused = []
    for _ in range(60):
        broken = bytearray(data[: rng.integers(1, len(data) + 1)])
        for place in rng.integers(0, len(broken), 4):
            broken[place] = rng.integers(256)
        try:
            assert load_pixels(broken, (8, 8), SQUASH).shape == (8, 8, 3)
        except InputError as error:
            refused.append(str(error))
    assert len(refused) > 10
    assert all("in memory" in message for message in refused)


def bomb(width, height):
    """A PNG whose header claims this size."""
    import struct
    import zlib

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 100)), (b"IEND", b"")]
    parts = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("size", [(10000, 9000), (20000, 20000), (60000, 60000)])
def test_decompression_bomb(size, tmp_path):
    path = tmp_path / "bomb.png"
    path.write_bytes(bomb(*size))
    with pytest.raises(InputError, match=r"bomb\.png"):
        load_pixels(path, (32, 32), SQUASH)


def test_our_own_limit_holds_without_pillows(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    with pytest.raises(InputError, match="10000 × 9000"):
        load_pixels(bomb(10000, 9000), (32, 32), SQUASH)


def test_files_that_cannot_be_opened(tmp_path):
    with pytest.raises(InputError, match=r"missing\.jpg"):
        load_pixels(tmp_path / "missing.jpg", (8, 8), SQUASH)
    with pytest.raises(InputError, match=str(tmp_path)):
        load_pixels(tmp_path, (8, 8), SQUASH)
    (tmp_path / "text.jpg").write_text("no picture")
    with pytest.raises(InputError, match=r"text\.jpg"):
        load_pixels(tmp_path / "text.jpg", (8, 8), SQUASH)
    with pytest.raises(InputError, match="0 bytes"):
        load_pixels(b"", (8, 8), SQUASH)


def test_formats_that_start_programs_are_refused():
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
    with pytest.raises(InputError, match="bytes in memory"):
        load_pixels(eps, (8, 8), SQUASH)


@pytest.mark.parametrize(
    ("array", "fault"),
    [
        (np.zeros((8, 8, 3)), "float64"),
        (np.zeros((8, 8, 5), np.uint8), r"\(8, 8, 5\)"),
        (np.zeros((1, 8, 8, 3), np.uint8), r"\(1, 8, 8, 3\)"),
        (np.zeros((0, 8, 3), np.uint8), r"\(0, 8, 3\)"),
        (np.zeros(8, np.uint8), r"\(8,\)"),
    ],
)
def test_arrays_that_are_no_picture(array, fault):
    with pytest.raises(InputError, match=fault):
        load_pixels(array, (8, 8), SQUASH)


def test_pixels_without_a_defined_range():
    with pytest.raises(InputError, match="mode F"):
        load_pixels(Image.new("F", (8, 8)), (8, 8), SQUASH)


def test_what_is_no_source_at_all():
    with pytest.raises(UsageError, match="int object"):
        load_pixels(3, (8, 8), SQUASH)
    with pytest.raises(UsageError, match="4"):
        load_pixels(scene(), (8, 8), SQUASH, channels=4)
    with pytest.raises(UnknownNameError, match="letterbox"):
        Preprocess(resize="leterbox")


@pytest.mark.parametrize("mode", PREPROCESS_MODES)
def test_normalize_is_the_formula(mode):
    preprocess = Preprocess.parse(mode)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3), np.uint8)
    got = normalize(pixels, preprocess)
    assert got.dtype == np.float32
    expected = (pixels - np.array(preprocess.mean)) / np.array(preprocess.std)
    # The mean is rounded to float32, and a pixel near it leaves only that error.
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=128 * 2**-24 / min(preprocess.std) * 2)
    assert (normalize(pixels[0], preprocess) == got[0]).all()


def test_normalize_takes_one_number_for_all_channels():
    pixels = np.full((2, 2, 1), 255, np.uint8)
    assert (normalize(pixels, Preprocess.parse("tf")) == 1).all()
    assert (normalize(np.zeros((2, 2, 3), np.uint8), Preprocess(mean=(127.5,), std=(127.5,))) == -1).all()
    assert {per_channel(values, 3).dtype for values in [(0.1,), (0.1, 0.2, 0.3)]} == {np.dtype(np.float32)}
    with pytest.raises(UsageError, match="3 numbers"):
        normalize(pixels, Preprocess.parse("torch"))
