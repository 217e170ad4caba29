"""Calibration sets: the choice, and everything that is refused before anything is converted."""

import hashlib
import itertools

import numpy as np
import pytest
from PIL import Image

from mbn_deploy.errors import InputError, UsageError
from mbn_deploy.manifest import Preprocess
from mbn_deploy.quantize.calibration import load_calibration

SIZE = (24, 32)
RAW, TF = Preprocess(), Preprocess.parse("tf")


def noise(seed, height=40, width=50):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for i in range(20):
        Image.fromarray(noise(i)).save(folder / ("sub" if i % 2 else "") / f"{i:02}.png")
    return folder


def npz(path, *arrays):
    np.savez(path, *arrays)
    return path


def test_a_folder_is_decoded_as_the_runtime_does(photos):
    from mbn_deploy.runtime.preprocess import load_pixels

    found = load_calibration(photos, SIZE, TF)
    assert len(found) == 20
    assert found.pixels.shape == (20, *SIZE, 3)
    assert found.pixels.dtype == np.uint8
    np.testing.assert_array_equal(found.pixels[3], load_pixels(photos / found.names[3], SIZE, TF))
    (warning,) = found.warnings
    assert "20 calibration images" in warning


def test_the_choice_depends_on_the_seed_alone_and_grows_with_the_count(photos):
    ten, again = (load_calibration(photos, SIZE, RAW, count=10, seed=1) for _ in range(2))
    more, other = load_calibration(photos, SIZE, RAW, count=15, seed=1), load_calibration(photos, SIZE, RAW, count=10)
    assert (ten.names, ten.sha256) == (again.names, again.sha256)
    assert more.names[:10] == ten.names
    assert set(other.names) != set(ten.names)
    assert other.sha256 != ten.sha256


def test_one_channel_models_get_grey_pixels(photos):
    grey = Preprocess(mean=(0.0,), std=(1.0,))
    assert load_calibration(photos, SIZE, grey).pixels.shape == (20, *SIZE, 1)


def test_the_hash_is_of_the_contents_not_of_the_names(photos):
    before = load_calibration(photos, SIZE, RAW, count=20)
    Image.fromarray(noise(99)).save(photos / "00.png")
    assert load_calibration(photos, SIZE, RAW, count=20).sha256 != before.sha256


def test_images_of_the_evaluation_set_are_left_out_by_file_and_by_pixels(photos):
    everything = load_calibration(photos, SIZE, RAW, count=20)
    by_file = hashlib.sha256((photos / everything.names[0]).read_bytes()).hexdigest()
    by_pixels = hashlib.sha256(everything.pixels[1].tobytes()).hexdigest()
    found = load_calibration(photos, SIZE, RAW, exclude=frozenset({by_file, by_pixels}))
    assert set(everything.names) - set(found.names) == set(everything.names[:2])
    assert found.warnings[0].startswith("2 calibration images")
    assert all(name in found.warnings[0] for name in everything.names[:2])
    ten = load_calibration(photos, SIZE, RAW, count=10, exclude=frozenset({by_file, by_pixels}))
    assert ten.names == found.names[:10]  # others in their place, and no more


def test_calibrating_on_the_evaluation_set_itself_is_refused(photos):
    hashes = frozenset(hashlib.sha256(p.read_bytes()).hexdigest() for p in photos.rglob("*.png"))
    with pytest.raises(InputError, match=r"photos: most of .*\d\d\.png"):
        load_calibration(photos, SIZE, RAW, exclude=hashes)


def test_unreadable_files_are_counted_and_named(photos):
    whole = (photos / "00.png").read_bytes()
    (photos / "00.png").write_bytes(whole[:200])
    (photos / "sub" / "01.png").write_bytes(b"no image at all")
    with pytest.raises(InputError, match=r"2 of 20 .*0[01]\.png"):
        load_calibration(photos, SIZE, RAW)


def test_constant_images_are_named(photos):
    Image.new("RGB", (30, 30), (10, 200, 3)).save(photos / "flat.png")
    with pytest.raises(InputError, match=r"1 of 21 .*flat\.png"):
        load_calibration(photos, SIZE, RAW)


def test_grey_images_and_copies_are_suspicious(photos):
    Image.fromarray(noise(50)[..., 0]).save(photos / "grey.png")
    (photos / "copy.png").write_bytes((photos / "00.png").read_bytes())
    few, grey, copies = load_calibration(photos, SIZE, RAW).warnings
    assert few.startswith("22 calibration images")
    assert "greyscale: grey.png" in grey
    assert copies.startswith("1 of 22")


def test_too_few_images(photos, tmp_path):
    for path in sorted(photos.rglob("*.png"))[7:]:
        path.unlink()
    with pytest.raises(InputError, match="photos: 7 images"):
        load_calibration(photos, SIZE, RAW)
    with pytest.raises(UsageError, match="not 3"):
        load_calibration(photos, SIZE, RAW, count=3)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty"):
        load_calibration(tmp_path / "empty", SIZE, RAW)
    with pytest.raises(InputError, match="nowhere"):
        load_calibration(tmp_path / "nowhere", SIZE, RAW)
    (tmp_path / "file.txt").write_text("x")
    with pytest.raises(InputError, match=r"file\.txt"):
        load_calibration(tmp_path / "file.txt", SIZE, RAW)


def test_an_npz_of_pixels_is_taken_as_it_is(tmp_path):
    pixels = np.stack([noise(i, *SIZE) for i in range(12)])
    found = load_calibration(npz(tmp_path / "c.npz", pixels), SIZE, TF)
    at = [int(name.split("[")[1][:-1]) for name in found.names]
    assert sorted(at) == list(range(12))
    np.testing.assert_array_equal(found.pixels, pixels[at])
    bgr = load_calibration(tmp_path / "c.npz", SIZE, Preprocess.parse("caffe"))
    np.testing.assert_array_equal(bgr.pixels, pixels[at][..., ::-1])


@pytest.mark.parametrize("mode", ["raw", "unit", "tf", "torch"])
def test_normalized_floats_come_back_as_their_pixels(mode, tmp_path):
    from mbn_deploy.runtime.preprocess import normalize

    pixels, preprocess = np.stack([noise(i, *SIZE) for i in range(9)]), Preprocess.parse(mode)
    found = load_calibration(npz(tmp_path / "c.npz", normalize(pixels, preprocess)), SIZE, preprocess)
    np.testing.assert_array_equal(found.pixels[found.names.index("c.npz[4]")], pixels[4])


@pytest.mark.parametrize(("right", "wrong"), list(itertools.permutations(["raw", "unit", "tf", "torch"], 2)))
def test_floats_normalized_in_another_way_are_refused(right, wrong, tmp_path):
    from mbn_deploy.runtime.preprocess import normalize

    pixels = np.stack([noise(i, *SIZE) for i in range(9)])
    path = npz(tmp_path / "c.npz", normalize(pixels, Preprocess.parse(wrong)))
    with pytest.raises(InputError, match=r"c\.npz.*normalized"):
        load_calibration(path, SIZE, Preprocess.parse(right))


def test_what_floats_should_span_is_told(tmp_path):
    path = npz(tmp_path / "c.npz", np.stack([noise(i, *SIZE) for i in range(9)]).astype(np.float32))
    with pytest.raises(InputError, match=r"\[0, 255\].*\[-1, 1\]"):
        load_calibration(path, SIZE, TF)


def test_eight_images_are_enough(tmp_path):
    assert len(load_calibration(npz(tmp_path / "c.npz", np.stack([noise(i, *SIZE) for i in range(8)])), SIZE, RAW)) == 8


def test_scaled_and_cut_off_pixels_are_refused(tmp_path):
    ones = np.random.default_rng(0).integers(0, 2, (9, *SIZE, 3)).astype(np.uint8)
    with pytest.raises(InputError, match=r"c\.npz.*\[0, 1\]"):
        load_calibration(npz(tmp_path / "c.npz", ones), SIZE, RAW)
    assert load_calibration(npz(tmp_path / "d.npz", 2 * ones), SIZE, RAW).pixels.max() == 2  # dark, not cut off


def test_bad_npz_files(tmp_path):
    good = np.stack([noise(i, *SIZE) for i in range(9)])
    cases = {
        "2 arrays": npz(tmp_path / "two.npz", good, good),
        r"shape \(9, 24, 31, 3\)": npz(tmp_path / "narrow.npz", good[:, :, 1:]),
        "int64": npz(tmp_path / "long.npz", good.astype(np.int64)),
        "not finite": npz(tmp_path / "nan.npz", np.where(good > 9, np.nan, 0.0)),
        "empty": npz(tmp_path / "empty.npz", good[:0]),
        "none.npz": tmp_path / "none.npz",
        "text.npz": tmp_path / "text.npz",
        "cut.npz": tmp_path / "cut.npz",
    }
    (tmp_path / "text.npz").write_text("hello")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "two.npz").read_bytes()[:900])
    for what, path in cases.items():
        with pytest.raises(InputError, match=rf"^(?=.*{path.name}).*{what}"):
            load_calibration(path, SIZE, RAW)


class Evil:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was run",))


def test_pickles_are_not_run(tmp_path):
    np.savez(tmp_path / "evil.npz", np.array([Evil()], object))
    with pytest.raises(InputError, match=r"evil\.npz"):
        load_calibration(tmp_path / "evil.npz", SIZE, RAW)
