"""Hostile files and folders are refused; `docs/hostile-input.md` lists them with their tests."""

import io
import json
import os
import pickle
import re
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import runtime_models as models
from cli_run import run

from mbn_deploy.errors import InputError, MbnError
from mbn_deploy.manifest import Description, Manifest
from mbn_deploy.pipeline.label_names import read_lines
from mbn_deploy.quantize.calibration import load_calibration
from mbn_deploy.runtime import Classifier, open_bundle
from mbn_deploy.runtime.formats.tflite_metadata import google_metadata
from mbn_deploy.runtime.system.files import read_file
from mbn_deploy.verify.golden import read_golden

ROOT = Path(__file__).parents[2]
unix = pytest.mark.skipif(os.name == "nt", reason="Unix files")

OUTSIDE = [
    "../m.tflite",
    "/etc/passwd",
    "sub/m.tflite",
    "..",
    "",
    "C:m",
    "a\\b",
    "m\0.tflite",
    "m\n.tflite",
    "m\r.tflite",
]


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "bundle"
    models.write_bundle(made, [("m.tflite", "tflite", "float32", models.float_tflite(), models.TF, "nhwc")])
    return made


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("key", ["files", "labels", "golden"])
def test_a_manifest_that_points_elsewhere(folder, key, name):
    def change(data):
        if key == "files":
            data["files"][0]["path"] = name
        else:
            data[key] = name

    models.edit_manifest(folder, change)
    with pytest.raises(InputError, match=r"manifest\.json"):
        open_bundle(folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [("size", 1), ("size", -1), ("size", 10**30), ("sha256", "0" * 64), ("sha256", ""), ("size", 1e999)],
)
def test_a_manifest_that_claims_other_sizes(folder, key, value):
    models.edit_manifest(folder, lambda data: data["files"][0].update({key: value}))
    with pytest.raises(InputError, match=r"m\.tflite|manifest\.json"):
        Classifier.open(folder)


@pytest.mark.parametrize("shape", [[1, 2**40, 12, 3], [1, 16, 12, 4], [], [-1, 16, 12, 3], [1e999]])
def test_a_manifest_that_claims_other_shapes(folder, shape):
    models.edit_manifest(folder, lambda data: data["files"][0]["input"].update({"shape": shape}))
    with pytest.raises(InputError, match="manifest"):
        Classifier.open(folder)


@pytest.mark.parametrize("text", ["[" * 100_000, "1" * 5000, '{"schema_version": 1e999}', "NaN", "\ufeff{}", "\0"])
def test_json_that_is_no_manifest(text):
    for read in (Manifest.from_json, Description.from_json):
        with pytest.raises(InputError, match="here"):
            read(text, "here")


@unix
@pytest.mark.parametrize("name", ["manifest.json", "labels.txt", "m.tflite"])
def test_pipes_are_not_waited_for(folder, name):
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(InputError, match=name):
        Classifier.open(folder)


@unix
@pytest.mark.parametrize("name", ["/dev/zero", "/dev/null", "/dev/full"])
def test_devices_are_not_read(folder, name):
    with pytest.raises(InputError, match=name):
        read_file(Path(name))
    result = run("run", folder, name)
    assert (result.exit_code, name in result.stderr) == (3, True)


@unix
def test_a_picture_that_is_a_pipe(folder, tmp_path):
    os.mkfifo(tmp_path / "cat.jpg")
    with Classifier.open(folder) as opened, pytest.raises(InputError, match=r"cat\.jpg"):
        opened.classify(tmp_path / "cat.jpg")


@unix
@pytest.mark.parametrize("option", [[], ["--delegate"], ["--reference", "pipe.tflite", "--data", "."]])
def test_a_file_to_inspect_that_is_a_pipe(folder, monkeypatch, option):
    monkeypatch.chdir(folder)
    os.mkfifo("pipe.tflite")
    result = run("inspect", "pipe.tflite", *option)
    assert (result.exit_code, "pipe.tflite" in result.stderr) == (3, True)


@unix
def test_labels_of_an_export_that_are_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "labels.txt")
    with pytest.raises(InputError, match=r"labels\.txt"):
        read_lines(tmp_path / "labels.txt")


@unix
def test_links_lead_only_to_what_has_the_right_hash(folder, tmp_path):
    (folder / "labels.txt").rename(tmp_path / "moved.txt")
    (folder / "labels.txt").symlink_to(tmp_path / "moved.txt")
    assert open_bundle(folder).labels == models.LABELS  # the hash is right: a link is a place, no more
    models.edit_manifest(folder, lambda data: data.update(labels_sha256=None))
    with pytest.raises(InputError, match=r"labels\.txt"):
        open_bundle(folder)
    (folder / "labels.txt").unlink()
    (folder / "labels.txt").symlink_to("labels.txt")
    with pytest.raises(InputError, match=r"labels\.txt"):
        open_bundle(folder)


@unix
def test_a_model_that_is_a_link_to_another_file(folder):
    (folder / "m.tflite").unlink()
    (folder / "m.tflite").symlink_to("/etc/passwd")
    with pytest.raises(InputError, match=r"m\.tflite"):
        Classifier.open(folder)


def test_a_file_that_is_too_large(tmp_path):
    path = tmp_path / "labels.txt"
    with path.open("wb") as file:
        file.truncate(2**27)  # sparse: takes no room
    with pytest.raises(InputError, match=r"labels\.txt.* 1000 "):
        read_file(path, 1000)
    with path.open("wb") as file:
        file.truncate(2**31 + 1)
    with pytest.raises(InputError, match=r"labels\.txt"):
        read_file(path)


class Bomb:
    """Leaves a trace where it is unpickled."""

    def __reduce__(self):
        return (Path.touch, (Path(os.environ["MBN_TRACE"]),))


def objects():
    buffer = io.BytesIO()
    np.savez(buffer, pixels=np.array([Bomb()], object))
    return buffer.getvalue()


def test_pickles_are_never_loaded(tmp_path, monkeypatch):
    trace = tmp_path / "trace"
    monkeypatch.setenv("MBN_TRACE", str(trace))
    for name, data in (("objects.npz", objects()), ("plain.npz", pickle.dumps(Bomb()))):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(InputError):
            read_golden(data, "golden.npz")
        with pytest.raises(MbnError):
            load_calibration(tmp_path / name, (32, 32), models.TF, count=5)
    for name in ("m.tflite", "m.onnx", "m.keras", "m.h5", "m.pkl"):
        (tmp_path / name).write_bytes(pickle.dumps(Bomb()))
        result = run("export" if name.endswith(("keras", "h5")) else "run", tmp_path / name, *_rest(name, tmp_path))
        assert result.exit_code in (2, 3), (name, result.stderr)
    assert not trace.exists()
    np.load(io.BytesIO(objects()), allow_pickle=True)["pixels"]
    assert trace.exists()  # it is sharp


def _rest(name, folder):
    return ["-o", folder / "out", "--precisions", "float32"] if name.endswith(("keras", "h5")) else [folder / "x.png"]


def npz(**members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return buffer.getvalue()


def header(shape, dtype="|u1"):
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


@pytest.mark.parametrize(
    "data",
    [
        npz(pixels=header("(1, 32, 32, 3)") + bytes(2**28)),
        npz(pixels=header("(1, 1099511627776, 32, 3)")),
        npz(pixels=header("(" + "9" * 4000 + ",)")),
        npz(pixels=header("(-1, 32, 32, 3)")),
        npz(pixels=header("(1, 32, 32, 3)", "|O")),
        npz(pixels=b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 65535),
    ],
    ids=["a bomb", "gigantic", "a number without end", "negative", "objects", "nested without end"],
)
def test_archives_of_golden_vectors(data):
    with pytest.raises(InputError, match=r"golden\.npz"):
        read_golden(data, "golden.npz")


def test_a_bomb_of_labels_in_a_model():
    from google_metadata import google, with_google

    with pytest.raises(InputError):
        google(with_google(content=bytes(2**26)))


@pytest.mark.parametrize("data", [b"", b"\0" * 16, b"\x18\0\0\0M001" + b"\xff" * 40])
def test_metadata_that_are_none(data):
    with pytest.raises(InputError):
        google_metadata(data, data, "m.tflite")


TRICKS = ["\u202egnp.exe", "a\u200bb", "\u2066x", "\x1b]0;title\x07", "\x9b2J", "a\u2028b", "\ufeffx", "\U000e0041"]


@pytest.mark.parametrize("trick", TRICKS)
def test_labels_cannot_deceive_a_reader(exported, picture, tmp_path, trick):
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join([f"x{trick}y{i}" for i in range(10)]), encoding="utf-8")
    result = run("run", exported[0], picture, "--top-k", 10, "--labels", labels)
    assert result.exit_code == 0
    assert not set(trick) & {c for c in result.stdout if not c.isascii() or ord(c) < 32} - {"\n"}
    as_json = run("run", exported[0], picture, "--labels", labels, "--json")
    assert as_json.stdout.isascii()
    assert trick in json.loads(as_json.stdout)["images"][0]["predictions"][0]["label"]


@unix
def test_a_picture_with_a_name_of_several_lines(exported, picture, tmp_path):
    path = tmp_path / "cat\x1b[2J\u202e.png"
    path.write_bytes(picture.read_bytes())
    result = run("run", exported[0], path)
    assert result.exit_code == 0
    assert "\x1b" not in result.stdout
    assert "\u202e" not in result.stdout


def test_a_nul_in_a_name():
    with pytest.raises(InputError):
        Classifier.open("m\0.tflite")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_manifest_is_not_read_without_end(folder):
    with (folder / "manifest.json").open("wb") as file:
        file.truncate(2**33)
    with pytest.raises(InputError, match=r"manifest\.json"):
        open_bundle(folder)


def test_the_page_names_tests_that_there_are():
    page = (ROOT / "docs/hostile-input.md").read_text(encoding="utf-8")
    named = re.findall(r"`([\w/]+/test_\w+)\.(\w+)`", page)
    assert len(named) > 20
    for module, name in named:
        text = (ROOT / f"tests/{module}.py").read_text(encoding="utf-8")
        assert re.search(rf"def {name}\(|class {name}\b", text), name


def test_a_bundle_without_files_is_bad_input_for_all_commands(folder, tmp_path):
    models.edit_manifest(folder, lambda data: data.update(files=[]))
    for command in (["run", folder, "a.png"], ["benchmark", folder], ["evaluate", folder, "--data", tmp_path]):
        result = run(*command)
        assert (result.exit_code, str(folder) in result.stderr) == (3, True), command
