"""The code that `bundle android` writes: compiled by the real compilers, and run outside of Android.

Warnings are errors. What is run answers as the runtime does: pixels and tensors bit for bit, models through the
interpreters of this machine (`android_stubs/org/tensorflow/lite/Remote.java`).
"""

import json
import shutil
import struct
from pathlib import Path
from typing import get_args

import android_tools as tools
import export_models as models
import keras
import numpy as np
import pytest
from PIL import Image

from mbn_deploy import Classifier, export_model
from mbn_deploy.manifest import UNFILTERED, Filter, Manifest, Preprocess, Resize
from mbn_deploy.models.api import build
from mbn_deploy.packages.android.names import constant
from mbn_deploy.packages.android.package import AndroidOptions, write_android_package
from mbn_deploy.runtime import load_pixels
from mbn_deploy.runtime.decoding import to_answers
from mbn_deploy.runtime.resize_plan import choose_sampler, jpeg_reduction, plan_resize, swap_sides
from mbn_deploy.runtime.tensors import PixelEncoder

pytestmark = [tools.compiling, pytest.mark.android, pytest.mark.slow]

SHARED = Path(__file__).resolve().parents[3] / "shared"
LABELS = ('quote " and \\', "${run()} $x", "two\tcolumns", "ünï 猫", "*/ // end")
ALL = ("int8", "float32", "float16", "dynamic", "int16x8")
SIDE = 32
ORIENTATIONS = {0: 1, 90: 6, 180: 3, 270: 8}  # EXIF 2.3, table 4.6.4, by degrees clockwise
ASSETS, TEST_ASSETS = "src/main/assets", "src/androidTest/assets"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("code")


@pytest.fixture(scope="module")
def stubs(root):
    return tools.compile_stubs(root / "stubs")


@pytest.fixture(scope="module")
def source(root):
    pictures = models.write_pictures(root / "pictures")
    export_model(models.small_model("mobilenet_v2"), root / "bundle", preprocess=Preprocess.parse("tf"),
           calibrate=pictures, labels=LABELS, precisions=ALL)  # fmt: skip
    return root / "bundle"


def compiled(bundle, folder, stubs, *, harness=tools.HARNESS, **options):
    """(the package's folder, its classes, where the models lie)."""
    asked = AndroidOptions(class_name="FlowerClassifier", package="com.example.flowers", **options)
    write_android_package(bundle, folder / "package", asked)
    sources = [path for kind in ("kt", "java") for path in sorted((folder / "package").rglob(f"*.{kind}"))]
    classes = tools.compile_package([*sources, harness], stubs, folder / "classes")
    later = options.get("delivery", "install-time") != "install-time"
    return folder / "package", classes, folder / "package" / (TEST_ASSETS if later else ASSETS)


@pytest.fixture(scope="module")
def litert(source, root, stubs):
    return compiled(source, root / "litert", stubs, precisions=ALL)


@pytest.fixture(scope="module")
def onnx(source, root, stubs):
    """The code beside a pack that comes after the installation: its test brings the models along."""
    later = {"kind": "asset-pack", "delivery": "on-demand"}
    return compiled(source, root / "onnx", stubs, runtime="onnx", precisions=("int8", "float32"), **later)


def ran(made, stubs, command, data=b"", *, assets=None, test_assets=TEST_ASSETS):
    folder, classes, usual = made
    return tools.run_harness(classes, stubs, command, assets or usual, folder / test_assets, data)


def text(value):
    return struct.pack(">H", len(value)) + value.encode()


def picture(rng, width, height, *, alpha):
    """RGBA pixels (H, W, 4); with `alpha` of all transparencies."""
    pixels = rng.integers(0, 256, (height, width, 4), np.uint8)
    if not alpha:
        pixels[..., 3] = 255
    return pixels


def argb(pixels):
    """As `Bitmap.getPixels` gives them, after (width, height)."""
    red, green, blue, alpha = np.moveaxis(pixels.astype(np.uint32), -1, 0)
    height, width = red.shape
    return struct.pack(">ii", width, height) + (alpha << 24 | red << 16 | green << 8 | blue).astype(">u4").tobytes()


def cases():
    """(preprocessing, (height, width) of the model, channels, degrees, RGBA pixels)."""
    rng = np.random.default_rng(3)
    made = []
    for resize in get_args(Resize):
        for name in UNFILTERED.get(resize, get_args(Filter)):
            for degrees in ORIENTATIONS:
                for width, height in ((57, 33), (32, 32), (17, 40), (300, 211)):
                    fraction = float(rng.choice([0.875, 1.0, 0.6]))
                    way = Preprocess(resize=resize, crop_fraction=fraction, filter=name)
                    size = (32, 32) if len(made) % 3 else (24, 40)
                    pixels = picture(rng, width, height, alpha=len(made) % 4 == 0)
                    made.append((way, size, 1 if len(made) % 5 == 0 else 3, degrees, pixels))
    made += [
        (Preprocess(resize=resize), (70, 64), 1, 0, picture(rng, *size, alpha=False))
        for resize in ("squash", "crop", "keras")
        for size in ((639, 700), (640, 700), (1280, 1400), (1400, 1280))
    ]
    return made


def packed(way, size, channels, degrees, pixels):
    head = struct.pack(">iii", size[1], size[0], channels) + text(constant(way.resize))
    return (
        head
        + struct.pack(">d", way.crop_fraction)
        + text(way.filter.upper())
        + struct.pack(">i", degrees)
        + argb(pixels)
    )


def wanted(way, size, channels, degrees, pixels):
    image = Image.fromarray(pixels)
    image.getexif()[0x0112] = ORIENTATIONS[degrees]
    return load_pixels(image, size, way, channels)


def columns_first(width, height, size, degrees, way):
    """Whether Pillow resizes columns before rows: since version 13, where twice as many rows as columns go away."""
    plan = plan_resize(swap_sides((width, height), ORIENTATIONS[degrees]), size[::-1], way)
    inner_width, inner_height = swap_sides(plan.inner, ORIENTATIONS[degrees])
    if choose_sampler(way) != "antialiased":
        return False
    return height > inner_height and height - inner_height > 2 * (width - inner_width)


def test_pixels_are_those_of_the_runtime(litert, stubs):
    """Bit for bit, for every way to resize, filter, rotation, and transparency, where Pillow takes rows first."""
    every = cases()
    out = ran(litert, stubs, "pixels", struct.pack(">i", len(every)) + b"".join(packed(*case) for case in every))
    for way, size, channels, degrees, pixels in every:
        height, width = pixels.shape[:2]
        (factor,) = struct.unpack(">i", out.read(4))
        found = np.frombuffer(out.read(size[0] * size[1] * channels), np.uint8).reshape(*size, channels)
        expected = wanted(way, size, channels, degrees, pixels)
        off = np.abs(found.astype(int) - expected).max()
        if not columns_first(width, height, size, degrees, way):
            assert off == 0, (way, size, channels, degrees, pixels.shape)
        elif way.filter in ("nearest", "bilinear"):
            assert off <= 1, (
                way,
                size,
                channels,
                degrees,
                pixels.shape,
            )  # the others overshoot, and are clipped between
        assert factor == jpeg_reduction(plan_resize((width, height), (size[1], size[0]), way), way)
    assert not out.read()


def checked_tensors(made, stubs, seed):
    """The input of noise and the scores of an output of noise, by the generated code and by the runtime."""
    manifest = Manifest.from_json((made[2] / "flower_classifier/manifest.json").read_bytes())
    rng = np.random.default_rng(seed)
    data, expected = b"", []
    for entry in manifest.files:
        pixels = rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8)
        if entry.output.dtype == "float32":
            output = rng.normal(size=(1, manifest.classes)).astype(np.float32)
        else:
            limits = np.iinfo(entry.output.dtype)
            output = rng.integers(limits.min, limits.max, (1, manifest.classes), entry.output.dtype, endpoint=True)
        data += struct.pack(">i", pixels.size) + pixels.tobytes() + struct.pack(">i", output.nbytes) + output.tobytes()
        ordered = pixels[..., ::-1] if entry.preprocess.channels == "bgr" else pixels
        tensor = PixelEncoder(entry.input, entry.preprocess, entry.layout)(ordered[None])
        expected.append((tensor, to_answers(output, entry.output, manifest.answers)[0]))
    out = ran(made, stubs, "tensors", data)
    for tensor, scores in expected:
        found = np.frombuffer(out.read(tensor.nbytes), tensor.dtype).reshape(tensor.shape)
        np.testing.assert_array_equal(found, tensor)
        np.testing.assert_allclose(np.frombuffer(out.read(4 * len(scores)), ">f4"), scores, rtol=1e-6)
    assert not out.read()


def test_tensors_are_those_of_the_runtime(litert, onnx, stubs):
    """uint8 and float in; float, uint8 and int16 out; channels last and first."""
    checked_tensors(litert, stubs, 1)
    checked_tensors(onnx, stubs, 2)


def test_tensors_of_another_bundle(source, litert, root, stubs):
    """int8 in and out, logits, blue first, a mean a channel. (One logit: test_meanings.py.)"""
    odd = shutil.copytree(source, root / "odd-bundle")
    manifest = json.loads((odd / "manifest.json").read_text())
    manifest.update(scores="logits", golden=None, golden_sha256=None)
    for file in manifest["files"]:
        file["output"].update(shape=[1, len(LABELS)])
        for end in ("input", "output"):
            if file[end]["dtype"] == "uint8":
                file[end].update(dtype="int8", zero_point=-3)
        file["preprocess"].update(channels="bgr", mean=[103.939, 116.779, 123.68], std=[58.395, 57.12, 57.375])
    (odd / "manifest.json").write_text(json.dumps(manifest))
    folder = root / "odd"
    compiled_to = folder / "classes"
    asked = AndroidOptions(class_name="FlowerClassifier", package="com.example.flowers", precisions=("int8", "float32"))
    write_android_package(odd, folder / "package", asked)
    tests = litert[0] / "src/androidTest"  # the harness calls them; this bundle has none
    sources = [
        *sorted((folder / "package").rglob("*.kt")),
        *sorted(tests.rglob("*.kt")),
        *sorted(tests.rglob("*.java")),
    ]
    tools.compile_package([*sources, tools.HARNESS], stubs, compiled_to)
    checked_tensors((folder / "package", compiled_to, folder / "package" / ASSETS), stubs, 3)


@pytest.mark.parametrize("variant", ["litert", "onnx"])
def test_the_phones_test_passes_with_real_interpreters(variant, request, stubs):
    made = request.getfixturevalue(variant)
    assets = None if variant == "litert" else "nothing"
    ran(made, stubs, "golden", assets=assets)
    ran(made, stubs, "java", assets=assets)


def test_the_phones_test_finds_another_answer(litert, stubs, root):
    folder = shutil.copytree(litert[0] / TEST_ASSETS, root / "damaged")
    (golden,) = folder.rglob("*_int8.tflite.golden")
    data = bytearray(golden.read_bytes())
    data[-4:] = struct.pack(">f", struct.unpack(">f", data[-4:])[0] + 0.01)
    golden.write_bytes(data)
    with pytest.raises(AssertionError, match=r"INT8 is off by 0\.01"):
        ran(litert, stubs, "golden", test_assets=folder)


@pytest.mark.parametrize("variant", ["litert", "onnx"])
def test_classify_answers_as_the_runtime(variant, request, source, stubs):
    made, rng = request.getfixturevalue(variant), np.random.default_rng(5)
    pictures = [picture(rng, 60, 45, alpha=False) for _ in range(6)]
    checked_answers(made, stubs, source, variant, list(zip(pictures, [0, 90, 180, 270, 0, 90], strict=True)))


def checked_answers(made, stubs, source, backend, pictures):
    """Top-3 of (RGBA pixels, degrees) by the generated code and by the runtime."""
    data = struct.pack(">i", len(pictures))
    for pixels, degrees in pictures:
        data += struct.pack(">i", degrees) + argb(pixels)
    out = ran(made, stubs, "classify", data)
    with Classifier.open(source, precision="int8", backend=backend) as classifier:
        for pixels, degrees in pictures:
            image = Image.fromarray(pixels)
            image.getexif()[0x0112] = ORIENTATIONS[degrees]
            for expected in classifier.classify(image, top_k=3):
                index, length = struct.unpack(">iH", out.read(6))
                label = out.read(length).decode()
                (score,) = struct.unpack(">f", out.read(4))
                assert (index, label) == (expected.index, expected.label)
                assert score == pytest.approx(expected.score, rel=1e-6)
    assert not out.read()


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_dir(), reason="the real models and photographs are not beside the checkout")
def test_photographs_by_a_trained_model(root, stubs):
    model = build("mobilenet_v1", alpha=0.25, weights=SHARED / "models/float/mobilenet_v1_0.25_224.h5")
    photographs = sorted((SHARED / "imagenet/calibration").glob("*.jpg"))
    export_model(model, root / "real-bundle", calibrate=SHARED / "imagenet/calibration", calibration_count=50,
           labels=SHARED / "imagenet/labels.txt", formats=["tflite"], precisions=["int8"])  # fmt: skip
    made = compiled(root / "real-bundle", root / "real", stubs)
    ran(made, stubs, "golden")
    pictures = [(np.asarray(Image.open(path).convert("RGBA")), 0) for path in photographs[::10]]
    checked_answers(made, stubs, root / "real-bundle", "litert", pictures)


def test_from_a_folder(litert, stubs):
    """As the packs are that come after the installation."""
    assert ran(litert, stubs, "folder").read()[2:].decode() == f"[{', '.join(LABELS)}]"


def test_compressed_assets_say_what_to_do(litert, stubs, root):
    folder = shutil.copytree(litert[2], root / "compressed")
    (model,) = folder.rglob("*_int8.tflite")
    model.rename(model.with_name(model.name + ".compressed"))
    said = ran(litert, stubs, "open", assets=folder).read()[2:].decode()
    assert "is compressed in the app and cannot be mapped" in said
    assert 'androidResources { noCompress += "tflite" }' in said
    (folder / "flower_classifier" / f"{model.name}.compressed").unlink()
    assert "No such file" in ran(litert, stubs, "open", assets=folder).read()[2:].decode()


@pytest.fixture(scope="module")
def mediapipe(source, root, stubs):
    options = {"runtime": "mediapipe", "precisions": ("int8", "float32")}
    return compiled(source, root / "mediapipe", stubs, harness=tools.BOX, **options)


def all_over(root):
    """A network that sees where things are, where those with random weights hardly tell pictures apart: a .tflite."""
    rng = np.random.default_rng(0)
    inputs = keras.Input((SIDE, SIDE, 3))
    x = keras.layers.Flatten()(keras.layers.Conv2D(8, 8, strides=8)(inputs))
    model = keras.Model(inputs, keras.layers.Dense(5, activation="softmax")(x))
    sizes = {4: 0.03, 2: 0.25, 1: 0}
    model.set_weights([rng.normal(size=w.shape) * sizes[w.ndim] for w in model.get_weights()])
    export_model(
        model, root / "all-over", preprocess=Preprocess.parse("tf"), formats=["tflite"], precisions=["float32"]
    )
    (file,) = (root / "all-over").glob("*.tflite")
    return file


def test_mediapipe_looks_at_the_same_part_of_a_picture(mediapipe, root, stubs):
    """By MediaPipe's own code, which is the same on Android: scores of the box are ours, of the whole picture not.

    It sends metrics about its use to Google (mediapipe#6291).
    """
    mp = pytest.importorskip("mediapipe", reason="mediapipe has no wheel for this machine", exc_type=ImportError)
    vision = pytest.importorskip("mediapipe.tasks.python.vision", exc_type=ImportError)
    rect = pytest.importorskip("mediapipe.tasks.python.components.containers.rect", exc_type=ImportError)
    core = pytest.importorskip("mediapipe.tasks.python.vision.core.image_processing_options", exc_type=ImportError)
    rng, file = np.random.default_rng(7), all_over(root)
    every = [(width, height, degrees) for width, height in ((160, 120), (120, 200)) for degrees in ORIENTATIONS]
    boxes = tools.run_box(mediapipe[1], stubs, every)
    base = mp.tasks.BaseOptions(model_asset_path=str(file))
    classifier = vision.ImageClassifier.create_from_options(vision.ImageClassifierOptions(base_options=base))
    with classifier as tasks, Classifier.open(file) as ours:

        def off(pixels, degrees, box):
            region = (
                None if box is None else rect.RectF(**dict(zip(("left", "top", "right", "bottom"), box, strict=True)))
            )
            options = core.ImageProcessingOptions(region, degrees)
            (found,) = tasks.classify(mp.Image(mp.ImageFormat.SRGB, pixels), options).classifications
            image = Image.fromarray(pixels)
            image.getexif()[0x0112] = ORIENTATIONS[degrees]
            expected = {p.index: p.score for p in ours.classify(image)}
            return max(abs(c.score - expected[c.index]) for c in found.categories)

        near, far = [], []
        for (width, height, degrees), box in zip(every, boxes, strict=True):
            coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), np.uint8))
            pixels = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))
            near.append(off(pixels, degrees, box))
            far.append(off(pixels, degrees, None))
    assert np.mean(near) < np.mean(far) / 3, (near, far)  # MediaPipe does not antialias
    assert max(near) < 0.1
