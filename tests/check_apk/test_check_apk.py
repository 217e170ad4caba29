"""`check-apk`: real archives with models and libraries of every kind, right and wrong."""

import hashlib
import json
import subprocess
import sys
import zipfile
from functools import partial

import android_tools as tools
import apk_files as made
import numpy as np
import pytest
import runtime_models as models
from apk_files import problems, the_problem
from cli_run import run

from mbn_deploy.answers import Answers
from mbn_deploy.check_apk import models as apk_models
from mbn_deploy.check_apk.aab_config import matches
from mbn_deploy.check_apk.check import check_apk
from mbn_deploy.errors import InputError
from mbn_deploy.export.file_types import About
from mbn_deploy.export.tflite.metadata import ClassifierMetadata, append_files, encode_metadata
from mbn_deploy.export.tflite.writer import write_tflite
from mbn_deploy.manifest import DESCRIPTION_KEY, Preprocess

MODEL = "assets/flowers.tflite"
GOOD = {MODEL: models.int8_tflite(), "lib/arm64-v8a/liba.so": made.elf()}


@pytest.fixture
def checked(tmp_path):
    return partial(made.check, tmp_path)


@pytest.fixture
def bundle(tmp_path):
    files = [
        ("flowers.tflite", "tflite", "int8", models.int8_tflite(), models.PIXELS, "nhwc"),
        ("flowers.onnx", "onnx", "float32", models.float_onnx(), models.TF, "nchw"),
    ]
    models.write_bundle(tmp_path / "bundle", files)
    return tmp_path / "bundle"


def test_all_is_well(checked):
    report = checked(GOOD)
    assert report.passed
    assert not report.findings
    (model,), (library,) = report.models, report.libraries
    assert (model.name, model.kind, model.stored, model.alignment) == (MODEL, "tflite", True, 16384)
    assert model.sha256 == hashlib.sha256(GOOD[MODEL]).hexdigest()
    assert (model.input, model.output, model.classes) == ("uint8 1×16×12×3", "uint8 1×5", 5)
    assert (model.labels, model.metadata) == (5, (DESCRIPTION_KEY,))
    assert (library.abi, library.bits, library.page_size, library.alignment) == ("arm64-v8a", 64, 16384, 16384)
    assert report.abis == ("arm64-v8a",)


def test_a_compressed_model(checked):
    report = checked(GOOD, packed=[MODEL])
    assert "is compressed: AssetManager.openFd fails" in the_problem(report)
    assert 'noCompress += "tflite"' in report.problems[0].advice
    assert report.models[0].alignment is None
    assert report.models[0].labels == 5, "it was looked into all the same"


def test_an_onnx_file_is_read_into_memory_anyway(checked):
    report = checked({"assets/m.onnx": models.float_onnx()}, packed=["assets/m.onnx"])
    assert report.passed
    assert [finding.level for finding in report.findings] == ["note"]
    assert (report.models[0].input, report.models[0].output) == ("float32 1×3×16×12", "float32 1×5")
    assert checked({"assets/m.onnx": models.float_onnx()}, alignment=0).passed


def test_models_are_found_by_content(checked):
    int8, onnx = models.int8_tflite(), models.int8_onnx()
    report = checked({"res/-Q.bin": int8, "assets/x": onnx, "res/raw/y.mp3": b"\x08\x05\x12\x03abc" * 9})
    assert {model.name: model.kind for model in report.models} == {"res/-Q.bin": "tflite", "assets/x": "onnx"}


def test_a_model_at_an_odd_place(checked):
    report = checked({"assets/m.tflite": models.int8_tflite(), "a": b""}, alignment=0)
    assert report.models[0].alignment < 4
    assert "multiple of 4 bytes" in the_problem(report)


@pytest.mark.parametrize(("data", "words"), [
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git lfs pull"),
    (b"hello world", "damaged"),
    (models.int8_tflite()[:900], "damaged"),
])  # fmt: skip
def test_what_is_called_a_model_and_is_none(checked, data, words):
    assert words in the_problem(checked({MODEL: data}))


def test_a_large_model_is_not_looked_into(checked, monkeypatch):
    monkeypatch.setattr(apk_models, "READ_LIMIT", 1000)
    report = checked(GOOD, packed=[])
    assert report.passed
    assert "is larger than" in report.findings[0].text


def test_against_a_bundle(checked, bundle):
    assert [model.matched for model in checked(GOOD, bundle=bundle).models] == ["equal"]
    renamed = checked({"assets/other.tflite": GOOD[MODEL]}, bundle=bundle)
    assert renamed.passed
    assert renamed.models[0].matched == "equal"
    other = checked({MODEL: models.int8_tflite("int8")}, bundle=bundle)
    assert other.models[0].matched == "differs"
    sha, first, last = problems(other)
    assert "its sha256 is" in sha
    assert "its input is int8 1×16×12×3; " in first
    assert "uint8 1×16×12×3" in first
    assert "its output is int8" in last
    stranger = checked({"assets/other.tflite": models.float_tflite()}, bundle=bundle)
    assert "none of" in the_problem(stranger)
    assert "flowers.tflite, flowers.onnx" in the_problem(stranger)


def test_a_damaged_bundle(checked, bundle):
    (bundle / "flowers.onnx").write_bytes(b"x")
    with pytest.raises(InputError, match=r"flowers\.onnx"):
        checked(GOOD, bundle=bundle)


def beside(bundle, **changes):
    names = ("manifest.json", "labels.txt", "flowers.tflite")
    return {f"assets/m/{name}": (bundle / name).read_bytes() for name in names} | changes


def test_against_the_manifest_beside_it(checked, bundle):
    report = checked(beside(bundle))
    assert report.passed
    assert report.models[0].matched == "equal"
    edited = checked(beside(bundle, **{"assets/m/labels.txt": b"a\nb\nc\nd\ne\n"}))
    assert the_problem(edited).startswith("assets/m/labels.txt: is not the labels file")
    changed = checked(beside(bundle, **{"assets/m/flowers.tflite": models.float_tflite()}))
    assert "is not the flowers.tflite of assets/m/manifest.json" in problems(changed)[0]
    broken = (bundle / "manifest.json").read_bytes().replace(b'"classes": 5', b'"classes": "many"')
    assert "cannot be read" in the_problem(checked(beside(bundle, **{"assets/m/manifest.json": broken})))
    foreign = checked({"assets/manifest.json": b'{"name": "a web app"}', MODEL: GOOD[MODEL]})
    assert foreign.passed
    assert foreign.models[0].matched is None


def test_labels(checked):
    two = {"assets/a.tflite": models.int8_tflite(described=False), "assets/labels.txt": b"a\nb\nc\nd\ne\n"}
    assert checked(two).passed
    fewer = checked(two | {"assets/labels.txt": b"a\nb\nc\nd\n"})
    assert the_problem(fewer).startswith("assets/labels.txt: 4 labels for a model with 5 classes; such models often")
    inside = checked({MODEL: models.float_tflite(labels=("a", "b"))})
    assert "2 labels for a model with 5 classes" in the_problem(inside)


def described_twice(labels):
    """A file with our description and with Google's metadata, as `export` makes them."""
    said = ClassifierMetadata("tiny", About(), (16, 12), 3, Preprocess.parse("tf"), Answers(), labels=True)
    own = models.description("float32", models.TF).to_json().encode()
    metadata = {DESCRIPTION_KEY: own, "TFLITE_METADATA": encode_metadata(said)}
    data = write_tflite(models.graph(), "float32", metadata=metadata)
    return append_files(data, {"labels.txt": "\n".join(labels).encode()})


def test_metadata_of_both_kinds(checked):
    report = checked({MODEL: described_twice(models.LABELS)})
    assert report.passed
    assert set(report.models[0].metadata) == {DESCRIPTION_KEY, "TFLITE_METADATA"}
    assert "differ" in the_problem(checked({MODEL: described_twice(models.LABELS[::-1])}))


def test_task_files(checked):
    name = "assets/classifier.task"
    report = checked({name: made.archive({"image.tflite": GOOD[MODEL]})})
    assert report.passed
    assert [model.name for model in report.models] == [name, f"{name}!image.tflite"]
    assert report.models[1].input == "uint8 1×16×12×3"
    packed = checked({name: made.archive({"image.tflite": GOOD[MODEL]}, packed=["image.tflite"])})
    assert the_problem(packed).startswith(f"{name}!image.tflite: is compressed in the .task file")
    assert "MediaPipe .task file" in the_problem(checked({name: b"no zip archive"}))
    assert "damaged" in the_problem(checked({name: b"PK\x03\x04 cut off"}))
    outer = checked({name: made.archive({"image.tflite": GOOD[MODEL]})}, packed=[name])
    assert "openFd fails" in the_problem(outer)


# App bundles and libraries.

AAB_MODEL, AAB_LIBRARY = "base/assets/flowers.tflite", "base/lib/arm64-v8a/liba.so"
AAB = {"BundleConfig.pb": made.bundle_config(["**.[tT][fF][lL][iI][tT][eE]"]), AAB_MODEL: GOOD[MODEL],
       AAB_LIBRARY: made.elf(), "base/manifest/AndroidManifest.xml": b"xml"}  # fmt: skip


def test_an_app_bundle_is_judged_by_its_configuration(checked):
    everything = {"make": made.archive, "packed": list(AAB)}
    report = checked(AAB, **everything)
    assert report.passed
    assert report.kind == "aab"
    assert (report.models[0].stored, report.models[0].alignment) == (True, None)
    silent = checked(AAB | {"BundleConfig.pb": made.bundle_config()}, **everything)
    assert "will be compressed" in the_problem(silent)
    small = checked(AAB | {"BundleConfig.pb": made.bundle_config(["**.tflite"], alignment=1)}, **everything)
    assert "only 4 KB" in the_problem(small)
    assert checked(AAB | {"BundleConfig.pb": made.bundle_config(["**.tflite"], alignment=2)}, **everything).passed
    old = checked(AAB | {AAB_LIBRARY: made.elf(4096)}, **everything)
    assert "pages of 4 KB" in the_problem(old)
    with pytest.raises(InputError, match=r"BundleConfig\.pb"):
        checked(AAB | {"BundleConfig.pb": b"\xff\xff"}, **everything)


@pytest.mark.parametrize(("delivery", "packs", "passed"), [
    (b"install-time", 0, True), (b"install-time", 2, False), (b"on-demand", 2, True),
])  # fmt: skip
def test_asset_packs_stay_uncompressed(checked, delivery, packs, passed):
    files = {
        "BundleConfig.pb": made.bundle_config(packs=packs), "base/manifest/AndroidManifest.xml": b"xml",
        "flowers/manifest/AndroidManifest.xml": b"..asset-pack.." + delivery, "flowers/assets/m.tflite": GOOD[MODEL],
    }  # fmt: skip
    report = checked(files, make=made.archive, packed=list(files))
    assert report.passed is passed
    assert report.models[0].name == "flowers/assets/m.tflite"


@pytest.mark.parametrize(("pattern", "path", "fits"), [
    ("**.tflite", "assets/a/b.tflite", True), ("*.tflite", "assets/b.tflite", False), ("**.tflite", "a.tflites", False),
    ("assets/*.tflite", "assets/b.tflite", True), ("assets/**", "assets/a/b", True), ("a?c", "abc", True),
    ("a?c", "a/c", False), ("**.[tT][fF]", "x.tF", True), ("**.[tT][fF]", "x.tx", False), ("", "", True),
    ("a+(b)", "a+(b)", True), ("[", "[", True), ("**a" * 50, "a" * 5000 + "b", False),
])  # fmt: skip
def test_patterns(pattern, path, fits):
    assert matches(pattern, path) is fits


def test_a_library_leaves_compression_to_the_app(checked):
    files = {"AndroidManifest.xml": made.TEXT_MANIFEST, "classes.jar": b"x", "jni/arm64-v8a/liba.so": made.elf(),
             "assets/m.tflite": GOOD[MODEL]}  # fmt: skip
    report = checked(files, make=made.archive, packed=list(files), name="lib.aar")
    assert report.passed
    assert (report.kind, report.models[0].stored, report.abis) == ("aar", None, ("arm64-v8a",))
    old = checked(files | {"jni/arm64-v8a/liba.so": made.elf(4096)}, make=made.archive)
    assert "pages of 4 KB" in the_problem(old)


@pytest.mark.parametrize(("files", "words"), [
    ({"a.txt": b"x"}, "AndroidManifest.xml"), ({"base.apk": b"x"}, "APKs"),
])  # fmt: skip
def test_other_archives(checked, files, words):
    with pytest.raises(InputError, match=words):
        checked(files, make=made.archive)


# The command.


def test_the_screen(tmp_path, bundle):
    path = tmp_path / "app.apk"
    path.write_bytes(made.apk(GOOD))
    result = run("check-apk", path, "--bundle", bundle)
    assert result.exit_code == 0, result.stderr
    assert "No problems found." in result.stdout
    assert all(len(line) <= 80 for line in result.stdout.splitlines()[1:])
    path.write_bytes(made.apk(GOOD | {"lib/arm64-v8a/libb.so": made.elf(4096), "lib/arm64-v8a/libc.so": made.elf(4096)},
                              packed=[MODEL]))  # fmt: skip
    result = run("check-apk", path)
    assert result.exit_code == 5
    assert f"PROBLEM {MODEL}: is compressed" in result.stdout
    assert "PROBLEM lib/arm64-v8a/libb.so, lib/arm64-v8a/libc.so: its LOAD segments" in result.stdout
    assert "3 problems" in result.stdout


def test_what_bundle_android_makes(exported, tmp_path):
    made_here = run("bundle", "android", exported[0], "-o", tmp_path / "p", "--kind", "aar")
    assert made_here.exit_code == 0, made_here.stderr
    (path,) = (tmp_path / "p").glob("*.aar")
    result = run("check-apk", path, "--bundle", exported[0], "--json")
    assert result.exit_code == 0, result.stdout
    assert [model["matched"] for model in json.loads(result.stdout)["models"]] == ["equal"]


def test_json(tmp_path):
    path = tmp_path / "app.apk"
    path.write_bytes(made.apk(GOOD, packed=[MODEL]))
    result = run("check-apk", path, "--json")
    assert result.exit_code == 5
    facts = json.loads(result.stdout)
    assert (facts["passed"], facts["kind"], facts["abis"]) == (False, "apk", ["arm64-v8a"])
    assert facts["findings"][0]["level"] == "problem"
    assert not result.stderr


def test_bad_input(tmp_path):
    path = tmp_path / "x.apk"
    for data in (b"", b"no zip", made.apk(GOOD)[:-5]):
        path.write_bytes(data)
        result = run("check-apk", path)
        assert result.exit_code == 3
        assert not result.stdout
    assert run("check-apk", tmp_path / "none.apk").exit_code == 3
    assert run("check-apk", tmp_path).exit_code == 3
    assert run("check-apk", path, "--bundle", tmp_path / "none").exit_code == 3


def test_names_cannot_steer_the_terminal(tmp_path):
    path = tmp_path / "x.apk"
    path.write_bytes(made.apk({"assets/\x1b[31m\u202e.tflite": b"x"}))
    result = run("check-apk", path)
    assert result.exit_code == 5
    assert "\x1b" not in result.stdout
    assert "\u202e" not in result.stdout


def test_without_any_framework(tmp_path):
    """As on a device: neither TensorFlow nor an interpreter can be imported."""
    path = tmp_path / "x.apk"
    path.write_bytes(made.apk(GOOD | {"assets/m.onnx": models.float_onnx()}))
    names = ["tensorflow", "keras", "onnx", "onnxruntime", "ai_edge_litert", "tflite_runtime", "flatbuffers", "typer"]
    program = (
        f"import sys\nfor name in {names!r}: sys.modules[name] = None\n"
        "from mbn_deploy.check_apk.check import check_apk\nprint(len(check_apk(sys.argv[1]).models))"
    )
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=False)
    assert done.stdout == "2\n", done.stderr


def test_any_bytes_in_models_and_configurations(tmp_path, bundle):
    """Damage inside of an archive that is whole is found out, or does not matter; it never is a bug."""
    beside_it = {f"assets/{name}": (bundle / name).read_bytes() for name in ("manifest.json", "labels.txt")}
    files = beside_it | {
        MODEL: described_twice(models.LABELS), "assets/b.onnx": models.float_onnx(), "lib/arm64-v8a/a.so": made.elf(),
        "assets/c.task": made.archive({"i.tflite": models.int8_tflite()}),
        "BundleConfig.pb": made.bundle_config(["**.tflite"], alignment=1, packs=2),
    }  # fmt: skip
    rng = np.random.default_rng(11)
    path = tmp_path / "x.apk"
    for turn in range(400):
        name = list(files)[turn % len(files)]
        data = bytearray(files[name])
        for at in rng.integers(len(data), size=4):
            data[at] = rng.choice([0, 1, 0x7F, 0xFF])
        changed = files | {name: bytes(data)}
        if name != "BundleConfig.pb":
            del changed["BundleConfig.pb"]
        path.write_bytes(made.apk(changed))
        try:
            assert isinstance(check_apk(path).passed, bool)
        except InputError as error:
            assert str(path) in str(error)  # noqa: PT017


# Archives that Android's own tools made.

MANIFEST = """<manifest xmlns:android="http://schemas.android.com/apk/res/android" package="org.example.flowers">
<uses-sdk android:minSdkVersion="24" android:targetSdkVersion="35"/><application android:label="x"/></manifest>"""


@tools.packaging
@pytest.mark.parametrize("options", [["-0", ".tflite"], []])
def test_apks_of_aapt2(tmp_path, options):
    """Linked, aligned and signed; aapt2 compresses models unless it is told not to."""
    (tmp_path / "assets").mkdir()
    (tmp_path / MODEL).write_bytes(models.float_tflite())
    (tmp_path / "AndroidManifest.xml").write_text(MANIFEST)
    linked, path = tmp_path / "linked.apk", tmp_path / "app.apk"
    tools.debian("aapt2", "link", "-o", linked, "-I", tools.FRAMEWORK, "--manifest", tmp_path / "AndroidManifest.xml",
                 "-A", tmp_path / "assets", *options)  # fmt: skip
    with zipfile.ZipFile(linked, "a") as archive:
        archive.writestr("lib/arm64-v8a/liba.so", made.elf())
    tools.debian("zipalign", "-f", "-p", 4, linked, path)
    tools.debian("zipalign", "-c", "-p", 4, path)
    report = check_apk(tools.signed(path, tmp_path))
    (model,) = report.models
    assert model.sha256 == hashlib.sha256(models.float_tflite()).hexdigest()
    assert model.stored is bool(options)
    assert (model.alignment or 4) >= 4
    assert ("is compressed" in " ".join(problems(report))) is not bool(options)


@tools.packaging
def test_zipalign_says_the_same_of_places(tmp_path):
    """For every place that the length of a name can give."""
    path, verdicts = tmp_path / "app.apk", []
    for length in range(4):
        name = f"assets/{'m' * length}.tflite"
        path.write_bytes(made.apk({name: models.int8_tflite()}, packed=["AndroidManifest.xml"], alignment=0))
        verdicts.append(check_apk(path).passed)
        if verdicts[-1]:
            tools.debian("zipalign", "-c", 4, path)
        else:
            with pytest.raises(subprocess.CalledProcessError):
                tools.debian("zipalign", "-c", 4, path)
    assert sorted(verdicts) == [False, False, False, True]
