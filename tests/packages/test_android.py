"""`bundle android`: what is written, what is refused, and that it is the same every time."""

import io
import json
import re
import shutil
import zipfile
from dataclasses import replace
from xml.etree import ElementTree as ET

import export_models as models
import pytest
from cli_run import run
from zip_offsets import data_offset

from mbn_deploy import export_model
from mbn_deploy.archives import ALIGNMENT, PAGE
from mbn_deploy.errors import InputError, UnknownNameError, UsageError
from mbn_deploy.hashing import sha256
from mbn_deploy.manifest import Preprocess
from mbn_deploy.packages.android.choice import asset_name
from mbn_deploy.packages.android.names import KEYWORDS, class_name, pack_name, package_name, snake_case
from mbn_deploy.packages.android.package import AndroidOptions, write_android_package
from mbn_deploy.packages.android.runtimes import RUNTIMES
from mbn_deploy.packages.phone import class_name_of
from mbn_deploy.runtime.bundle import open_bundle
from mbn_deploy.runtime.formats.tflite_file import read_metadata

NASTY = ('quote " and \\', "${run()} $x", "two\tcolumns", "ünï 猫 \u202e", "*/ // </manifest> '''")
NAME = 'Flowers */ ${x} "\n 1'
FLOWERS = AndroidOptions(class_name="FlowerClassifier", package="com.example.flowers")
TEXTS = (".kt", ".kts", ".java", ".md", ".pro", ".xml")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    root = tmp_path_factory.mktemp("android")
    pictures = models.write_pictures(root / "pictures")
    export_model(models.small_model("mobilenet_v1"), root / "bundle", preprocess=Preprocess.parse("tf"),
           calibrate=pictures, labels=NASTY, precisions=["float32", "float16", "int8"])  # fmt: skip
    return changed(root / "bundle", root / "nasty", lambda data: data.update(model=NAME))


def changed(source, target, change):
    """A copy of the bundle whose manifest was changed: `change` takes the JSON object."""
    folder = shutil.copytree(source, target)
    data = json.loads((folder / "manifest.json").read_text())
    change(data)
    (folder / "manifest.json").write_text(json.dumps(data))
    return folder


def made(source, out, **options):
    return write_android_package(source, out, replace(FLOWERS, **options))


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_module(source, tmp_path):
    package = made(source, tmp_path / "flowers")
    files = contents(tmp_path / "flowers")
    assets = "src/main/assets/flower_classifier/"
    (entry,) = package.files
    assert entry.precision == "int8"
    assert sha256(files[assets + asset_name(entry)]) == entry.sha256
    assert read_metadata(files[assets + asset_name(entry)], "m")["TFLITE_METADATA"]
    assert files[assets + "labels.txt"].decode().splitlines() == list(NASTY)
    assert b'noCompress += "tflite"' in files["build.gradle.kts"]
    assert b'namespace = "com.example.flowers"' in files["build.gradle.kts"]
    assert b"minSdk = 21" in files["build.gradle.kts"]
    for coordinate in RUNTIMES["litert"].dependencies:
        assert f'implementation("{coordinate}")'.encode() in files["build.gradle.kts"]
    assert ET.fromstring(files["src/main/AndroidManifest.xml"]).tag == "manifest"  # noqa: S314 - just written
    assert package.asset_bytes == sum(len(data) for name, data in files.items() if name.startswith(assets))
    assert json.loads(files["package.json"])["class"] == "FlowerClassifier"


def test_a_package_that_gradle_built_in_is_replaced(source, tmp_path):
    out = tmp_path / "p"
    write_android_package(source, out, AndroidOptions())
    for name in ("build/outputs/aar/p-release.aar", ".gradle/9.0/checksums.lock", ".kotlin/sessions/a.salive"):
        (out / name).parent.mkdir(parents=True)
        (out / name).write_bytes(b"x")
    (out / "src/main/build").mkdir()
    (out / "src/main/build/Mine.kt").write_bytes(b"x")
    with pytest.raises(UsageError, match=r"src/main/build/Mine\.kt"):
        write_android_package(source, out, AndroidOptions(), overwrite=True)
    (out / "src/main/build/Mine.kt").unlink()
    write_android_package(source, out, AndroidOptions(), overwrite=True)
    assert not (out / "build").exists()


def test_the_assets_are_a_bundle(source, tmp_path):
    """`check-apk` finds the manifest beside the model, and says what belongs together."""
    made(source, tmp_path / "flowers", precisions=("float16", "int8"))
    opened = open_bundle(tmp_path / "flowers/src/main/assets/flower_classifier")
    assert [entry.precision for entry in opened.manifest.files] == ["float16", "int8"]
    assert all(entry.path.count(".") == 1 for entry in opened.manifest.files)
    assert opened.labels == NASTY
    assert not opened.manifest.metrics


@pytest.mark.parametrize(("runtime", "format_"), [("litert", "tflite"), ("mediapipe", "tflite"), ("onnx", "onnx")])
def test_sources_of_each_runtime(source, tmp_path, runtime, format_):
    package = made(source, tmp_path / "p", runtime=runtime)
    code = {name.rsplit("/", 1)[-1] for name in package.written if name.startswith("src/main/kotlin/com/example/")}
    assert code == {f"FlowerClassifier{suffix}.kt" for suffix in RUNTIMES[runtime].sources}
    assert {entry.format for entry in package.files} == {format_}
    readme = contents(tmp_path / "p")["README.md"].decode()
    assert ("sends metrics to Google" in readme) == (runtime == "mediapipe")


@pytest.mark.parametrize("kind", ["asset-pack", "ai-pack"])
@pytest.mark.parametrize("delivery", ["install-time", "fast-follow", "on-demand"])
def test_packs(source, tmp_path, kind, delivery):
    package = made(source, tmp_path / "p", kind=kind, delivery=delivery, pack="flower_pack")
    files = contents(tmp_path / "p")
    gradle = files["flower_pack/build.gradle.kts"].decode()
    assert f'id("com.android.{kind}")' in gradle
    assert 'packName.set("flower_pack")' in gradle
    assert f'deliveryType.set("{delivery}")' in gradle
    assert f"flower_pack/src/main/assets/flower_classifier/{asset_name(package.files[0])}" in files
    assert not [name for name in files if name.startswith("flower_pack/") and name.endswith((".kt", ".java"))]
    readme = files["README.md"].decode()
    assert ("getPackLocation" in readme) == (delivery != "install-time")
    test = files["src/androidTest/kotlin/com/example/flowers/FlowerClassifierGoldenTest.kt"].decode()
    own = f"src/androidTest/assets/flower_classifier/{asset_name(package.files[0])}"
    assert (own in files) == ("instrumentation.targetContext" not in test) == (delivery != "install-time")


def test_aar(source, tmp_path):
    package = made(source, tmp_path / "p", kind="aar", precisions=("int8", "float32"), min_sdk=26)
    data = (tmp_path / "p/flower_classifier.aar").read_bytes()
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert names[:4] == ["AndroidManifest.xml", "classes.jar", "R.txt", "proguard.txt"]
        root = ET.fromstring(archive.read("AndroidManifest.xml"))  # noqa: S314 - just written
        assert root.get("package") == "com.example.flowers"
        least = "{http://schemas.android.com/apk/res/android}minSdkVersion"
        assert [uses.get(least) for uses in root.findall("uses-sdk")] == ["26"]
        with zipfile.ZipFile(io.BytesIO(archive.read("classes.jar"))) as jar:
            assert jar.read("META-INF/MANIFEST.MF").startswith(b"Manifest-Version: 1.0\r\n")
        for entry in package.files:
            info = archive.getinfo(f"assets/flower_classifier/{asset_name(entry)}")
            start = data_offset(data, info)
            assert info.compress_type == zipfile.ZIP_STORED
            assert start % PAGE == 0
            assert sha256(data[start : start + info.file_size]) == entry.sha256
        assert all(data_offset(data, info) % ALIGNMENT == 0 for info in archive.infolist())


def test_the_code_is_the_same_whatever_the_kind(source, tmp_path):
    """It is compiled once for each runtime (`test_android_code.py`)."""
    every = []
    for kind in ("module", "aar", "asset-pack", "ai-pack"):
        made(source, tmp_path / kind, kind=kind)
        files = contents(tmp_path / kind)
        every.append(
            {name: data for name, data in files.items() if name.startswith(("src/main/kotlin", "src/androidTest"))}
        )
    assert every[0]
    assert all(code == every[0] for code in every)


@pytest.mark.parametrize("kind", ["module", "aar", "ai-pack"])
def test_the_same_bytes_every_time(source, tmp_path, kind):
    first, second = tmp_path / "1" / "p", tmp_path / "2" / "p"
    made(source, first, kind=kind)
    made(source, second, kind=kind)
    assert contents(first) == contents(second)
    assert (first.parent / "p.tar.gz").read_bytes() == (second.parent / "p.tar.gz").read_bytes()


@pytest.mark.parametrize("kind", ["module", "aar", "asset-pack", "ai-pack"])
@pytest.mark.parametrize("runtime", sorted(RUNTIMES))
def test_no_text_of_the_bundle_becomes_code(source, tmp_path, kind, runtime):
    """Labels are in no text file but labels.txt and manifest.json; of the model's name plain letters are left."""
    made(source, tmp_path / "p", kind=kind, runtime=runtime)
    for name, data in contents(tmp_path / "p").items():
        if name.endswith(TEXTS):
            text = data.decode("ascii")
            assert "§" not in text
            assert not [label for label in NASTY if label in text]
            assert NAME not in text
            assert "run()" not in text


def test_defaults(source, tmp_path):
    result = run("bundle", "android", source, "-o", tmp_path / "p", "--json")
    facts = json.loads(result.stdout)
    assert (facts["class"], facts["package"]) == ("FlowersXClassifier", "com.example.flowers_x_classifier")
    assert (facts["kind"], facts["runtime"], facts["min_sdk"]) == ("module", "litert", 21)
    assert (facts["pack"], facts["delivery"], facts["warnings"]) == (None, None, [])
    assert set(facts["files"]) == set(contents(tmp_path / "p")) - {"package.json"}


def test_the_terminal(source, tmp_path):
    result = run("bundle", "android", source, "-o", tmp_path / "p", "--precision", "int8,float32", "--kind", "aar")
    assert result.exit_code == 0
    assert "aar: com.example.flowers_x_classifier.FlowersXClassifier, with litert, from API level 21" in result.stdout
    assert "2 models add" in result.stderr
    assert max(map(len, result.stdout.splitlines()[2:])) <= 80


def test_float32_where_less_would_do(source, tmp_path):
    (warning,) = made(source, tmp_path / "p", precisions=("float32",)).warnings
    assert re.fullmatch(r"float32 adds .* MB to the download; the bundle's int8 adds .* MB", warning)


def test_without_int8(source, tmp_path):
    def remove(data):
        data["files"] = [f for f in data["files"] if f["precision"] != "int8"]

    folder = changed(source, tmp_path / "b", remove)
    assert [e.precision for e in made(folder, tmp_path / "p").files] == ["float16"]
    with pytest.raises(UnknownNameError, match=r"int8.*float16"):
        made(folder, tmp_path / "q", precisions=("int8",))


def test_without_labels_and_golden(source, tmp_path):
    def remove(data):
        data.update(labels=None, labels_sha256=None, golden=None, golden_sha256=None)

    folder = changed(source, tmp_path / "b", remove)
    result = run("bundle", "android", folder, "-o", tmp_path / "p")
    assert result.exit_code == 0
    assert "no golden vectors" in result.stderr
    files = contents(tmp_path / "p")
    assert not [name for name in files if "androidTest" in name]
    (labels,) = [data for name, data in files.items() if name.endswith("labels.txt")]
    assert labels == b"0\n1\n2\n3\n4\n"


REFUSED = {
    "kind": {"kind": "apk"},
    "runtime": {"runtime": "torch"},
    "precision": {"precisions": ("int4",)},
    "dynamic as onnx": {"precisions": ("float16",), "runtime": "onnx"},
    "delivery": {"kind": "ai-pack", "delivery": "never"},
    "delivery of a module": {"delivery": "on-demand"},
    "pack of an aar": {"kind": "aar", "pack": "flowers"},
    "sdk of a pack": {"kind": "ai-pack", "min_sdk": 30},
    "sdk below the runtime's": {"runtime": "onnx", "min_sdk": 21},
    "sdk that will never be": {"min_sdk": 1000},
    **{f"package {name!r}": {"package": name} for name in (
        "flowers", "com.", ".com", "com..x", "com.1x", "com.in.x", "com.class", "com.exämple.x", "com.x-y", "com.x y",
        "com.example\n", 'com.x";', "com.$x", "com._x", "com/example/x", "../x.y",
    )},
    **{f"class {name!r}": {"class_name": name} for name in (
        "flower", "Flo wer", "Flower$", "Flower`", "1Flower", "Flöwer", "Flower\n", 'F"', "Bitmap", "String",
        "../F",
    )},
    **{f"pack {name!r}": {"kind": "asset-pack", "pack": name} for name in (
        "1pack", "my-pack", "my pack", "päck", "p$", 'p"', "p\n", "base", "../p", "p/q", "_p",
    )},
}  # fmt: skip


@pytest.mark.parametrize("options", REFUSED.values(), ids=list(REFUSED))
def test_refused(source, tmp_path, options):
    with pytest.raises(UsageError):
        made(source, tmp_path / "p", **options)
    assert not list(tmp_path.iterdir())


def test_keywords():
    for word in KEYWORDS:
        with pytest.raises(UsageError, match="keyword"):
            package_name(f"com.{word}.x")
    assert package_name("com.Example_1.x") == "com.Example_1.x"
    assert (pack_name("Flowers_2"), class_name("Flower_2")) == ("Flowers_2", "Flower_2")


@pytest.mark.parametrize(
    ("model", "name", "folder"),
    [
        ("mobilenet_v2_1.0_224", "MobilenetV2Classifier", "mobilenet_v2_classifier"),
        ("1.0", "PictureClassifier", "picture_classifier"),
        ("猫", "PictureClassifier", "picture_classifier"),
        ("2cats", "PictureClassifier", "picture_classifier"),
        ("my-flowers v2", "MyFlowersV2Classifier", "my_flowers_v2_classifier"),
    ],
)
def test_names_made_from_models(model, name, folder):
    assert class_name(class_name_of(model)) == name
    assert snake_case(name) == folder


def entries(**values):
    """A change of every entry of a manifest; keys are `input_dtype`, `preprocess_resize`, `path` and the like."""

    def change(data):
        for file in data["files"]:
            for key, value in values.items():
                part, _, name = key.partition("_")
                if name:
                    file[part][name] = value
                else:
                    file[part] = value

    return change


UNUSABLE = {
    "int8 input in MediaPipe": (entries(input_dtype="int8"), "mediapipe", UsageError, "--input uint8"),
    "int16 output in MediaPipe": (entries(output_dtype="int16"), "mediapipe", UsageError, "int16 output"),
    "letterbox in MediaPipe": (entries(preprocess_resize="letterbox"), "mediapipe", UsageError, "--runtime litert"),
    "keras-pad in MediaPipe": (entries(preprocess_resize="keras-pad"), "mediapipe", UsageError, "--runtime litert"),
    "logits in MediaPipe": (lambda data: data.update(scores="logits"), "mediapipe", UsageError, "logits"),
    "grey in MediaPipe": (entries(input_shape=[1, 32, 32, 1]), "mediapipe", UsageError, "colour"),
    "means in MediaPipe": (entries(preprocess_mean=[1, 2, 3]), "mediapipe", UsageError, "--runtime litert"),
    "int16 input": (entries(input_dtype="int16"), "litert", UsageError, "--input uint8"),
    "a batch": (entries(input_shape=[4, 32, 32, 3]), "litert", UsageError, "--batch 1"),
    "no picture": (entries(input_shape=[1, 32]), "litert", InputError, "(1, 32)"),
    "no .tflite": (lambda d: d.update(files=[f for f in d["files"] if f["format"] == "onnx"]), "litert", UsageError,
                   "onnx/int8"),
    "labels": (lambda data: data.update(classes=6), "litert", InputError, "6 classes, but 5 labels"),
    "not this file": (entries(sha256="0" * 64), "litert", InputError, "sha256"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "runtime", "error", "said"), UNUSABLE.values(), ids=list(UNUSABLE))
def test_what_a_phone_cannot_use(source, tmp_path, change, runtime, error, said):  # noqa: PLR0917
    folder = changed(source, tmp_path / "b", change)
    with pytest.raises(error, match=re.escape(said)):
        made(folder, tmp_path / "p", runtime=runtime)
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


@pytest.mark.parametrize(
    "name", ["a b.tflite", ".a.tflite", "ä.tflite", 'a".tflite', "a$b.tflite", "a~", "${x}.tflite"]
)
def test_names_of_files_that_no_asset_has(source, tmp_path, name):
    def rename(data):
        (entry,) = (f for f in data["files"] if (f["format"], f["precision"]) == ("tflite", "int8"))
        (tmp_path / "b" / entry["path"]).rename(tmp_path / "b" / name)
        entry["path"] = name

    with pytest.raises(InputError, match="--name"):
        made(changed(source, tmp_path / "b", rename), tmp_path / "p")
    assert not (tmp_path / "p").exists()


def test_models_that_want_other_pictures(source, tmp_path):
    def other(data):
        data["files"][0]["preprocess"]["resize"] = "squash"

    folder = changed(source, tmp_path / "b", other)
    with pytest.raises(UsageError, match="--precision"):
        made(folder, tmp_path / "p", precisions=("float32", "int8"))


def test_exit_codes(source, tmp_path):
    assert run("bundle", "android", tmp_path / "none", "-o", tmp_path / "p").exit_code == 3
    assert run("bundle", "android", source, "-o", tmp_path / "p", "--class-name", "x").exit_code == 2
    assert run("bundle", "android", source, "-o", tmp_path / "p", "--precision", "int8,").exit_code == 2
    assert not list(tmp_path.iterdir())


def test_overwrite(source, tmp_path):
    made(source, tmp_path / "p", kind="aar")
    with pytest.raises(UsageError, match="--overwrite"):
        made(source, tmp_path / "p")
    write_android_package(source, tmp_path / "p", FLOWERS, overwrite=True)
    assert not list((tmp_path / "p").glob("*.aar"))
