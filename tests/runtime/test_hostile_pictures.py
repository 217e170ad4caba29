"""Pictures that would take gigabytes or minutes: refused before they are decoded, whatever they come from."""

import io
import struct
import zlib

import numpy as np
import pytest
from hostile_pictures import (
    jpeg2000_of_small_precincts,
    jpeg_of_many_scans,
    marker,
    overlapping_tiff,
    tiff_of_one_strip_many_times,
)
from PIL import Image

from mbn_deploy.errors import InputError, UsageError
from mbn_deploy.manifest import RESIZE_ABOUT, Preprocess
from mbn_deploy.runtime.camera import Frame, frames
from mbn_deploy.runtime.image_checks.sizes import COPYING_LIMIT, SIDE_LIMIT, SLOW_LIMIT, TooManyPixelsError
from mbn_deploy.runtime.preprocess import load_pixels

SQUASH = Preprocess(resize="squash")
LONG = SIDE_LIMIT + 1


def load(source, resize="squash"):
    return load_pixels(source, (8, 8), Preprocess(resize=resize))


def encoded(image, kind, **options):
    made = io.BytesIO()
    image.save(made, kind, **options)
    return made.getvalue()


def noise(width=64, height=48, mode="RGB"):
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).convert(mode)


# ---- scans

RESTARTS = b"\xff\xd0\xff\xd1"


# Decoders refuse a second scan of a sequential JPEG of one component.
@pytest.mark.parametrize(("components", "progressive"), [(1, True), (3, True), (4, True), (3, False), (4, False)])
def test_a_jpeg_of_many_scans_is_refused(components, progressive):
    data = jpeg_of_many_scans(64, 64, 500, components=components, progressive=progressive)
    with pytest.raises(InputError, match="scans"):
        load(data)


@pytest.mark.parametrize(
    "between",
    [
        RESTARTS,
        b"\xff\xff\xff",
        b"rubbish",
        marker(0xFE, b"a comment \xff\xd9"),
        marker(0xDD, b"\0\1"),
        b"\xff\0\xff\0",
    ],
    ids=["restarts", "fill bytes", "rubbish", "comments", "intervals", "stuffed bytes"],
)
def test_nothing_between_scans_hides_them(between):
    with pytest.raises(InputError, match="scans"):
        load(jpeg_of_many_scans(64, 64, 500, between=between))


def test_few_scans_of_many_pixels_are_too_many(tmp_path):
    path = tmp_path / "scans.jpg"
    path.write_bytes(jpeg_of_many_scans(9000, 9000, 60))
    with pytest.raises(InputError, match=r"scans\.jpg"):
        load(path)


def test_an_image_that_pillow_opened_is_checked_too():
    with pytest.raises(InputError, match="scans"):
        load(Image.open(io.BytesIO(jpeg_of_many_scans(64, 64, 500))))


def test_arithmetic_coding_is_refused():
    data = bytearray(encoded(noise(), "JPEG"))
    data[data.index(b"\xff\xc0") + 1] = 0xC9
    with pytest.raises(InputError, match="arithmetic"):
        load(data)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"progressive": True, "restart_marker_rows": 1}])
def test_real_jpegs_are_decoded(mode, options):
    image = noise(mode=mode)
    data = encoded(image, "JPEG", **options)
    assert np.array_equal(load(data), load(Image.open(io.BytesIO(data))))
    assert np.array_equal(load(data + data * 200), load(data))  # what comes behind the end is not looked at


def test_a_thumbnail_in_a_jpeg_is_no_scan():
    small = jpeg_of_many_scans(8, 8, 200)
    data = encoded(noise(), "JPEG", progressive=True)
    assert np.array_equal(load(data[:2] + marker(0xEC, small) + data[2:]), load(data))


# ---- rows, columns and pixels


LONG_FILES = {
    "PNG": {},
    "BMP": {},
    "TIFF": {},
    "compressed TIFF": {"kind": "TIFF", "compression": "tiff_lzw"},
    "PPM": {},
    "JPEG2000": {},
}


@pytest.mark.parametrize("size", [(1, 200_000), (200_000, 1)])
@pytest.mark.parametrize("kind", LONG_FILES)
def test_a_file_of_too_many_rows_or_columns(kind, size):
    options = {"kind": kind, **LONG_FILES[kind]}
    image = Image.new("L", size)
    with pytest.raises(TooManyPixelsError, match="200000"):
        load(encoded(image, options.pop("kind"), **options))


@pytest.mark.parametrize("size", [(1, 65_000), (65_000, 1)])
@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "TIFF", "PPM", "JPEG"])
@pytest.mark.parametrize("resize", RESIZE_ABOUT)
def test_the_longest_pictures_are_decoded(kind, size, resize):
    assert load(encoded(Image.new("L", size, 200), kind), resize).shape == (8, 8, 3)


@pytest.mark.parametrize("orientation", [6, 8])
def test_a_turned_picture_has_the_same_bounds(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    with pytest.raises(TooManyPixelsError, match="70000"):
        load(encoded(Image.new("L", (70_000, 1)), "PNG", exif=exif))
    with pytest.raises(TooManyPixelsError, match="70000"):
        load(encoded(Image.new("L", (70_000, 1)), "TIFF", exif=exif))


def test_formats_whose_decoders_copy_have_a_bound_of_their_own():
    image = Image.new("L", (8192, COPYING_LIMIT // 8192 + 1))
    with pytest.raises(TooManyPixelsError, match=str(COPYING_LIMIT)):
        load(encoded(image, "WEBP", lossless=True, method=0, quality=0))
    assert load(encoded(image, "PNG", compress_level=1)).shape == (8, 8, 3)


def test_decoders_in_python_have_a_bound_of_their_own():
    side = int(SLOW_LIMIT**0.5) + 1
    head = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 8, 1, 4, 0, 0, 256, 0)
    runs = b"BM" + struct.pack("<IHHI", 0, 0, 0, 14 + 40 + 1024) + head + bytes(1024) + b"\0\1\0\1"
    for data in (runs, b"P2 %d %d 255 1 1 1 " % (side, side), b"P5 %d %d 77 " % (side, side) + bytes(100)):
        with pytest.raises(TooManyPixelsError, match=str(SLOW_LIMIT)):
            load(data)
    assert load(b"P2 2 2 255 1 1 1 1 ").shape == (8, 8, 3)


ARRAYS = {
    "one column": np.broadcast_to(np.uint8(1), (89_000_000, 1, 3)),
    "one row": np.broadcast_to(np.uint8(1), (1, 89_000_000)),
    "one column of 16 bits": np.broadcast_to(np.uint16(1), (LONG, 1)),
    "a plane": np.broadcast_to(np.uint8(1), (60_000, 60_000, 3)),
    "a view backwards": np.broadcast_to(np.uint8(1), (LONG, 2, 3))[::-1, ::-1],
}


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_have_the_same_bounds(name):
    with pytest.raises(TooManyPixelsError, match="array of shape"):
        load(ARRAYS[name])


@pytest.mark.parametrize(
    "array",
    [
        np.full((8, 8, 3), np.nan),
        np.full((8, 8, 3), np.inf, np.float32),
        np.empty((8, 8, 3), object),
        np.zeros((8, 8), [("red", np.uint8)]),
        np.zeros((8, 8, 3), "U1"),
        np.zeros((8, 8, 3), bool),
        np.zeros((8, 8, 0), np.uint8),
        np.zeros((), np.uint8),
    ],
    ids=str,
)
def test_arrays_of_other_things_are_refused(array):
    with pytest.raises(InputError, match="array of"):
        load(array)


def test_an_array_backwards_is_an_image():
    pixels = np.asarray(noise())
    assert np.array_equal(load(pixels[::-1, ::-1]), load(np.ascontiguousarray(pixels[::-1, ::-1])))
    assert np.array_equal(load(pixels[:, :, ::-1]), load(pixels)[:, :, ::-1])


def test_an_image_in_memory_has_the_same_bounds():
    with pytest.raises(TooManyPixelsError, match=str(LONG)):
        load(Image.new("L", (1, LONG)))


def test_frames_have_the_same_bounds():
    with pytest.raises(UsageError, match=str(LONG)):
        frames("-", size=(LONG, 1))
    with pytest.raises(InputError, match="scans"):
        Frame(0, "camera", jpeg_of_many_scans(64, 64, 500)).rgb()


# ---- what a file says of itself


@pytest.mark.parametrize("big", [False, True])
def test_a_tiff_whose_entries_all_name_the_same_bytes(big):
    with pytest.raises(InputError, match="entries"):
        load(overlapping_tiff(entries=2000, size=50_000, big=big))


def test_exif_whose_entries_all_name_the_same_bytes():
    exif = b"Exif\0\0" + overlapping_tiff(entries=2000, size=30_000)
    data = encoded(noise(), "JPEG")
    with pytest.raises(InputError, match="entries"):
        load(data[:2] + marker(0xE1, exif) + data[2:])
    for kind in ("PNG", "WEBP"):  # the picture itself is sound
        assert load(encoded(noise(), kind, exif=exif)).shape == (8, 8, 3)


def test_exif_in_several_segments_is_checked_as_one():
    exif = overlapping_tiff(entries=3000, size=150_000)
    segments = b"".join(marker(0xE1, b"Exif\0\0" + exif[at : at + 60_000]) for at in range(0, len(exif), 60_000))
    data = encoded(noise(), "JPEG")
    with pytest.raises(InputError, match="entries"):
        load(data[:2] + segments + data[2:])


def test_a_strip_that_is_named_many_times():
    with pytest.raises(InputError, match="strips"):
        load(tiff_of_one_strip_many_times(50_000))
    assert load(tiff_of_one_strip_many_times(1)).shape == (8, 8, 3)


@pytest.mark.parametrize(
    "options",
    [{}, {"compression": "tiff_lzw"}, {"compression": "jpeg"}, {"compression": "tiff_deflate", "big_tiff": True}],
)
def test_real_tiffs_are_decoded(options):
    assert load(encoded(noise(300, 400), "TIFF", **options)).shape == (8, 8, 3)


@pytest.mark.parametrize("container", [True, False])
def test_a_jpeg2000_of_small_precincts(container):
    image = Image.new("RGB", (1000, 1000))
    small, whole = (jpeg2000_of_small_precincts(image, exponent, container) for exponent in (0, 10))
    with pytest.raises(InputError, match="precincts"):
        load(small)
    assert load(whole).shape == (8, 8, 3)


def test_real_jpeg2000_files_are_decoded():
    for options in ({}, {"tile_size": (128, 128)}, {"irreversible": True, "num_resolutions": 3}, {"no_jp2": True}):
        assert load(encoded(noise(300, 400), "JPEG2000", **options)).shape == (8, 8, 3)


@pytest.mark.parametrize("kind", [b"iCCP", b"zTXt", b"iTXt"])
def test_a_bomb_beside_the_pixels(kind):
    """Text and profiles are bounded by Pillow: a picture or a refusal, at once."""
    packed = zlib.compress(bytes(50_000_000))
    data = kind + {b"iCCP": b"a\0\0", b"zTXt": b"a\0\0", b"iTXt": b"a\0\1\0\0\0"}[kind] + packed
    chunk = struct.pack(">I", len(data) - 4) + data + struct.pack(">I", zlib.crc32(data))
    whole = encoded(noise(), "PNG")
    with pytest.raises(InputError):
        load(whole[:33] + chunk + whole[33:])


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_many_frames_the_first_is_used(kind):
    first, rest = noise(), [Image.new("RGB", (64, 48), (index, 0, 0)) for index in range(40)]
    exact = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(first, kind, save_all=True, append_images=rest, **exact)
    assert np.array_equal(load(data), load(encoded(first, kind, **exact)))


# ---- transparency and 16 bits are worked on in bands


@pytest.mark.parametrize("size", [(3, 60_000), (60_000, 30), (1500, 900)])
@pytest.mark.parametrize("kind", ["alpha", "palette"])
def test_bands_are_seamless(size, kind):
    rng = np.random.default_rng(1)
    image = Image.fromarray(rng.integers(0, 256, (size[1], size[0], 4), dtype=np.uint8))
    if kind == "palette":
        image = image.getchannel(0).point([index % 16 for index in range(256)])
        image.putpalette(rng.integers(0, 256, 48).tolist())
        image.info["transparency"] = bytes(range(0, 256, 16))
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    expected = Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    assert np.array_equal(load(image), load(expected))


def test_bands_of_16_bits_are_seamless():
    values = np.random.default_rng(2).integers(0, 65536, (1700, 900), dtype=np.uint16)
    expected = np.rint(values / 257).astype(np.uint8)
    assert np.array_equal(load(values), load(expected))
