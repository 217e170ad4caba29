"""What .tflite files say about themselves: against files made with the flatbuffers package, and against damage."""

from pathlib import Path

import numpy as np
import pytest
import runtime_models as models
from google_metadata import Writer, google, metadata_buffer, with_google

from mbn_deploy.errors import InputError
from mbn_deploy.export.tflite.writer import write_tflite
from mbn_deploy.manifest import DESCRIPTION_KEY, Description
from mbn_deploy.runtime.formats.tflite_file import read_metadata
from mbn_deploy.runtime.formats.tflite_metadata import GOOGLE_KEY, google_metadata


def test_our_description_comes_back():
    found = read_metadata(models.float_tflite(), "m.tflite")
    made = Description.from_json(found[DESCRIPTION_KEY], "m.tflite")
    assert made == models.description("float32", models.TF)


def test_google_metadata():
    found = google(with_google(mean=(1, 2, 3), std=(4, 5, 6)))
    assert (found.mean, found.std) == ((1, 2, 3), (4, 5, 6))
    assert found.labels == models.LABELS


def test_google_metadata_that_say_little():
    found = google(with_google(content=b"never read", kind=1))
    assert (found.mean, found.labels) == ((127.5,), None)
    w = Writer()
    empty = w.finish(w.table(f0=w.text("tiny")))
    assert google_metadata(empty, b"", "m.tflite").mean is None


def test_labels_that_cannot_be_read():
    with pytest.raises(InputError, match=r"m\.tflite.*'other\.txt'"):
        google(with_other())
    with pytest.raises(InputError, match=r"m\.tflite"):
        google(with_google(content=b"\n" * (5 * 2**20)))
    with pytest.raises(InputError, match=r"m\.tflite"):
        google(with_google(content=b"\xff\xfe\xff"))


def with_other():
    return write_tflite(models.graph(), "float32", metadata={GOOGLE_KEY: metadata_buffer(labels="other.txt")})


def test_damaged_google_metadata_name_the_file():
    data = with_google()
    for buffer in (b"", b"12345678", metadata_buffer()[:60], b"\xff\xff\xff\x7fM001" + bytes(20)):
        with pytest.raises(InputError, match=r"m\.tflite.*TFLITE_METADATA"):
            google_metadata(buffer, data, "m.tflite")


@pytest.mark.parametrize("kept", [0, 3, 8, 40, 0.3, 0.6, 0.95])
def test_truncated_files_are_refused(kept):
    data = models.float_tflite()
    length = kept if isinstance(kept, int) else int(kept * len(data))
    with pytest.raises(InputError, match=r"m\.tflite"):
        read_metadata(data[:length], "m.tflite")


def test_other_files_are_refused():
    for data in (models.float_onnx(), b"PK\x03\x04" + bytes(100), bytes(1000), b"\x00\x00\x00\x00TFL3" + bytes(100)):
        with pytest.raises(InputError, match="TFLite"):
            read_metadata(data, "m.tflite")


def test_random_damage_never_escapes_as_another_error():
    data = with_google()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(1000):
        broken = bytearray(data)
        for place in rng.integers(0, len(data), 8):
            broken[place] = rng.integers(256)
        try:
            found = read_metadata(bytes(broken), "m.tflite")
            google_metadata(found.get(GOOGLE_KEY, b""), bytes(broken), "m.tflite")
        except InputError:
            refused += 1
    assert refused > 50


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "mean", "second"),
    [
        ("mobilenet_v1_0.25_128_quant", (127.5,), "tench, Tinca tinca"),
        ("mobilenet_v1_0.25_224_float_with_metadata", (127.5,), "tench"),
    ],
)
def test_published_files(name, mean, second):
    shared = Path(__file__).parents[3] / "shared"
    if not shared.is_dir():
        pytest.skip("no ../shared beside the checkout")
    data = (shared / "models/published" / f"{name}.tflite").read_bytes()
    found = google(data)
    assert found.mean == mean
    assert found.labels[:2] == ("background", second)
    assert len(found.labels) == 1001
