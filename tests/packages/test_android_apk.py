"""From `bundle android --kind aar` to a signed APK by Debian's tools; the model is run where it lies in it."""

import mmap
import zipfile

import android_tools as tools
import export_models as models
import numpy as np
import pytest
from zip_offsets import data_offset

from mbn_deploy import export_model
from mbn_deploy.hashing import sha256
from mbn_deploy.manifest import Preprocess
from mbn_deploy.packages.android.choice import asset_name
from mbn_deploy.packages.android.package import AndroidOptions, write_android_package
from mbn_deploy.runtime.backends import open_backend

pytestmark = [tools.packaging, pytest.mark.android]

LABELS = ('quote "', "$x", "a\tb", "ü 猫", "<e>")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(the bundle, the package, its .aar unpacked, a signed APK of it)."""
    root = tmp_path_factory.mktemp("apk")
    pictures = models.write_pictures(root / "pictures")
    bundle = export_model(models.small_model("mobilenet_v1"), root / "bundle", preprocess=Preprocess.parse("tf"),
                    calibrate=pictures, labels=LABELS, precisions=["int8", "float32"]).bundle  # fmt: skip
    options = AndroidOptions("aar", precisions=("int8", "float32"), package="com.example.flowers")
    package = write_android_package(root / "bundle", root / "package", options)
    (archive,) = (root / "package").glob("*.aar")
    with zipfile.ZipFile(archive) as unpacked:
        unpacked.extractall(root / "aar")
    return bundle, package, root / "aar", apk(root / "aar", root)


def apk(unpacked, work):
    """As the Android Gradle plugin does it: resources and assets linked, aligned, signed."""
    linked, aligned = work / "linked.apk", work / "aligned.apk"
    arguments = ["-I", tools.FRAMEWORK, "--manifest", unpacked / "AndroidManifest.xml", "-A", unpacked / "assets"]
    tools.debian("aapt2", "link", "-o", linked, *arguments, "-0", ".tflite")
    tools.debian("zipalign", "-f", "4", linked, aligned)
    tools.debian("zipalign", "-c", "4", aligned)
    return tools.signed(aligned, work)


def test_models_are_stored_aligned_and_equal(made):
    _, package, _, signed = made
    data = signed.read_bytes()
    with zipfile.ZipFile(signed) as archive:
        assert archive.testzip() is None
        for entry in package.files:
            (info,) = (i for i in archive.infolist() if i.filename.endswith(asset_name(entry)))
            start = data_offset(data, info)
            assert info.compress_type == zipfile.ZIP_STORED
            assert start % 4 == 0
            assert sha256(data[start : start + info.file_size]) == entry.sha256
        (labels,) = (i for i in archive.namelist() if i.endswith("labels.txt"))
        assert archive.read(labels).decode().splitlines() == list(LABELS)


def test_mapped_out_of_the_apk_it_answers_as_before(made):
    bundle, package, _, signed = made
    with zipfile.ZipFile(signed) as archive, signed.open("rb") as file:
        whole = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        for entry in package.files:
            (info,) = (i for i in archive.infolist() if i.filename.endswith(asset_name(entry)))
            start = data_offset(whole, info)
            mapped = whole[start : start + info.file_size]
            tensor = np.random.default_rng(1).integers(0, 256, entry.input.shape).astype(entry.input.dtype)
            np.testing.assert_array_equal(answer(mapped, tensor), answer(bundle.path(entry).read_bytes(), tensor))


def answer(model, tensor):
    backend = open_backend(model, "tflite", threads=1)
    try:
        return backend.run(tensor).copy()
    finally:
        backend.close()


def test_without_the_option_it_would_be_compressed(made, tmp_path):
    """What the generated class says then is tested in `test_android_code.py`; aapt2 wants the dot before the name."""
    _, package, unpacked, _ = made
    arguments = ["-I", tools.FRAMEWORK, "--manifest", unpacked / "AndroidManifest.xml", "-A", unpacked / "assets"]
    tools.debian("aapt2", "link", "-o", tmp_path / "a.apk", *arguments, "-0", "tflite")
    with zipfile.ZipFile(tmp_path / "a.apk") as archive:
        kinds = {i.filename.rsplit("/", 1)[-1]: i.compress_type for i in archive.infolist()}
    assert zipfile.ZIP_DEFLATED in {kinds[asset_name(entry)] for entry in package.files}  # noise is stored anyway


def test_the_finished_library_is_aligned_too(made):
    _, package, _, _ = made
    (archive,) = package.folder.glob("*.aar")
    tools.debian("zipalign", "-c", "4", archive)
