"""Commands that read and write files, on a real bundle; each class of bad input with its exit code."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from mbn_deploy.cli.main import app
from mbn_deploy.demo.digits import CLASSES, shipped
from mbn_deploy.demo.networks import weights_name

WEIGHTS = str(resources.files("mbn_deploy.demo") / weights_name("mobilenet_v1"))
NETWORK = ["mobilenet_v1", "--alpha", "0.25", "--size", "32", "--classes", "10", "--weights", WEIGHTS]


def run(*args):
    return CliRunner().invoke(app, [str(a) for a in args], env={"COLUMNS": "80", "TERM": "dumb"})


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Digits as a user would have them: calibration images, a folder a class, labels."""
    root = tmp_path_factory.mktemp("data")
    calibration, held_back = shipped()
    calibration.write(root / "calibration", by_class=False)
    held_back.write(root / "held-back", by_class=True)
    (root / "labels.txt").write_text("\n".join(CLASSES) + "\n")
    return root


@pytest.fixture(scope="module")
def exported(data):
    """(bundle, what the command printed): float32 and int8 in both formats, evaluated."""
    out = data / "bundle"
    result = run(
        "export", *NETWORK, "-o", out, "--precisions", "float32,int8", "--resize", "squash", "--labels",
        data / "labels.txt", "--calibrate", data / "calibration", "--calibration-count", 50,
        "--evaluate", data / "held-back", "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    return out, json.loads(result.stdout)


@pytest.fixture
def bundle(exported, tmp_path):
    """A copy to be damaged."""
    return shutil.copytree(exported[0], tmp_path / "bundle")


@pytest.fixture
def picture(data):
    return min((data / "held-back" / "7").iterdir())


def test_export_says_what_it_made(exported):
    folder, said = exported
    names = {file["path"] for file in said["manifest"]["files"]}
    assert names == {f"mobilenet_v1_0.25_32_{p}.{f}" for p in ("float32", "int8") for f in ("tflite", "onnx")}
    assert names < {path.name for path in folder.iterdir()}
    assert said["manifest"]["metrics"]["reference"]["top1"]["value"] > 0.95
    assert said["manifest"]["quantization"]["calibration"]["images"] == 50
    assert said["timings"]["quantize"] > 0


def test_an_existing_bundle_is_replaced_only_when_asked(bundle):
    args = ["export", *NETWORK, "-o", bundle, "--precisions", "float32", "--formats", "tflite"]
    before = (bundle / "manifest.json").read_bytes()
    refused = run(*args)
    assert (refused.exit_code, (bundle / "manifest.json").read_bytes()) == (2, before)
    assert "--overwrite" in refused.stderr
    replaced = run(*args, "--overwrite")
    assert replaced.exit_code == 0
    assert sorted(path.suffix for path in bundle.iterdir()) == [".json", ".npz", ".tflite"]
    assert "mobilenet_v1_0.25_32_float32.tflite" in replaced.stdout
    assert f"mbn-deploy run {bundle} IMAGE" in replaced.stderr


def test_evaluate_agrees_with_the_manifest(exported, data):
    folder, said = exported
    result = run("evaluate", folder, "--data", data / "held-back", "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    measured = said["manifest"]["metrics"]["files"]
    assert set(found["accuracy"]) == set(measured)
    for name, accuracy in found["accuracy"].items():
        assert accuracy["top1"]["value"] == pytest.approx(measured[name]["top1"]["value"])
    compared = found["comparison"]["mobilenet_v1_0.25_32_int8.onnx"]
    assert compared["reference"] == "mobilenet_v1_0.25_32_float32.tflite"
    assert compared["agreement"]["value"] > 0.95


def test_evaluate_of_one_file_and_of_fewer_images(exported, data):
    file = exported[0] / "mobilenet_v1_0.25_32_int8.tflite"
    result = run("evaluate", file, "--data", data / "held-back", "--limit", 40)
    assert result.exit_code == 0
    assert "40 images of 'held-back'" in result.stdout
    assert "agrees" not in result.stdout  # there is nothing to agree with
    of_bundle = run("evaluate", exported[0], "--data", data / "held-back", "--limit", 40, "--precision", "int8")
    assert of_bundle.stdout.count("_int8.") == 2
    assert "_float32." not in of_bundle.stdout


def test_run_goes_on_after_a_bad_image(exported, picture, tmp_path):
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"\xff\xd8\xff\xe0 no picture")
    result = run("run", exported[0], picture, bad, picture, "--top-k", 2)
    assert result.exit_code == 3
    assert result.stdout.count(str(picture)) == 2
    assert str(bad) in result.stderr
    first = result.stdout.splitlines()[1].split()
    assert first[1] == "7"
    assert float(first[0].rstrip("%")) > 50


def test_run_json_keeps_the_order_and_the_errors(exported, picture, tmp_path):
    missing = tmp_path / "missing.png"
    result = run("run", exported[0], missing, picture, "--json", "--precision", "float32", "--backend", "onnx")
    said = json.loads(result.stdout)
    assert result.exit_code == 3
    assert (said["model"]["precision"], said["model"]["backend"]) == ("float32", "onnx")
    assert [image["image"] for image in said["images"]] == [str(missing), str(picture)]
    assert "no such file" in said["images"][0]["error"]
    assert said["images"][1]["predictions"][0]["label"] == "7"


def test_labels_cannot_write_to_the_terminal(exported, picture, tmp_path):
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join(["[bold red]x[/]", ":smile:", "\x1b[2Jgone", *"345678", "nine"]), encoding="utf-8")
    result = run("run", exported[0], picture, "--top-k", 10, "--labels", labels)
    assert result.exit_code == 0
    assert all(text in result.stdout for text in ("[bold red]x[/]", ":smile:", "\\x1b[2Jgone"))
    assert "\x1b" not in result.stdout


@pytest.mark.parametrize("kind", ["int8.tflite", "float32.onnx"])
def test_inspect_shows_what_is_in_a_file(exported, kind):
    result = run("inspect", exported[0] / f"mobilenet_v1_0.25_32_{kind}", "--ops")
    assert result.exit_code == 0
    assert kind.split(".")[0] in result.stdout.splitlines()[0]
    assert "10 labels" in result.stdout
    assert "conv_pw_13" in result.stdout
    if kind == "int8.tflite":
        assert "every operation is integer" in result.stdout
        assert "have the clean range [0, 6]" in result.stdout
    assert max(map(len, result.stdout.splitlines()[1:])) <= 80


def test_inspect_json(exported):
    file = exported[0] / "mobilenet_v1_0.25_32_int8.tflite"
    said = json.loads(run("inspect", file, "--json").stdout)
    assert (said["precision"], said["all_integer"]) == ("int8", True)
    assert said["inputs"][0]["dtype"] == "uint8"


@pytest.mark.skipif(os.name == "nt", reason="no pseudo-terminals")
def test_progress_goes_to_the_terminal_and_data_to_stdout(exported, data):
    import pty

    screen, end = pty.openpty()
    code = "from mbn_deploy.cli.main import main; main()"
    args = ["evaluate", str(exported[0]), "--data", str(data / "held-back"), "--json"]
    child = subprocess.run([sys.executable, "-c", code, *args], stdout=subprocess.PIPE, stderr=end, check=False)
    os.close(end)
    shown = os.read(screen, 1_000_000).decode()
    os.close(screen)
    assert child.returncode == 0
    assert json.loads(child.stdout)["images"] == 500
    assert "load evaluation images" in shown
    assert "500/500" in shown
    # What the interpreter says comes after the last bar, not through it.
    assert "XNNPACK" not in shown[: shown.rindex("500/500")]


class TestWrongUse:
    """Exit code 2, before anything is loaded or written."""

    @pytest.mark.parametrize(
        ("args", "said"),
        [
            (["mobilenet_v9"], "did you mean mobilenet_v"),
            (["mobilenet_v1", "--formats", "tflit"], "did you mean tflite"),
            (["mobilenet_v1", "--precisions", "int9"], "did you mean int8"),
            (["mobilenet_v1", "--precisions", "float32,"], "separated by commas"),
            (["mobilenet_v1", "--input", "unit8"], "did you mean uint8"),
            (["mobilenet_v1", "--layout", "ncwh"], "did you mean nchw"),
            (["mobilenet_v1", "--resize", "sqash"], "did you mean squash"),
            (["mobilenet_v1", "--preprocess", "tensorflow"], "unknown preprocessing"),
            (["mobilenet_v1", "--preprocess", "127,5/0"], "one or three numbers"),
            (["mobilenet_v1", "--filter", "bilinaer"], "did you mean bilinear"),
            (["mobilenet_v1", "--batch", "0"], "batch must be at least 1"),
            (["mobilenet_v1", "--alpha", "-1"], "alpha must be"),
            (["mobilenet_v1"], "int8 needs calibration images"),
            (["model.keras", "--precisions", "float32", "--alpha", "0.5"], "--alpha is for a MODEL by name"),
            (["mobilenet_v1", "--precisions", "float16", "--formats", "onnx"], "give no file"),
        ],
    )
    def test_export(self, args, said, tmp_path):
        result = run("export", *args, "-o", tmp_path / "out")
        assert result.exit_code == 2, result.stderr
        assert said in result.stderr
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize(
        ("args", "said"),
        [
            (["--precision", "int9"], "did you mean int8"),
            (["--backend", "litter"], "did you mean litert"),
            (["--resize", "sqash"], "did you mean squash"),
            (["--threads", "0"], "at least 1"),
            (["--top-k", "0"], "at least 1"),
        ],
    )
    def test_run(self, exported, picture, args, said):
        result = run("run", exported[0], picture, *args)
        assert result.exit_code == 2
        assert said in result.stderr

    def test_evaluate(self, exported, data):
        args = ["evaluate", exported[0], "--data", data / "held-back"]
        assert run(*args, "--limit", 0).exit_code == 2
        assert run(*args, "--precision", "int9").exit_code == 2
        assert run(*args, "--backend", "tflite", "--precision", "no").exit_code == 2

    def test_labels_that_do_not_match_the_classes(self, exported, picture, data, tmp_path):
        nine = tmp_path / "nine.txt"
        nine.write_text("\n".join("123456789"))
        result = run("run", exported[0], picture, "--labels", nine)
        assert result.exit_code == 2
        assert "9 labels for a model with 10 classes" in result.stderr
        made = run("export", *NETWORK, "-o", tmp_path / "out", "--precisions", "float32", "--labels", nine)
        assert made.exit_code == 3
        assert "9 labels" in made.stderr
        assert not (tmp_path / "out").exists()


class TestUnusableInput:
    """Exit code 3, one line that names the file, nothing written."""

    @staticmethod
    def refused(result, *said):
        assert result.exit_code == 3, (result.stderr, result.exception)
        assert all(str(part) in result.stderr for part in said), result.stderr
        assert "Traceback" not in result.stderr
        assert not result.stdout

    @pytest.mark.parametrize("suffix", [".keras", ".h5"])
    @pytest.mark.parametrize("content", [b"", b"PK\x03\x04 torn", b"\x89HDF\r\n\x1a\n torn", b"\x80\x04 pickle"])
    def test_corrupt_keras_files(self, suffix, content, tmp_path):
        file = tmp_path / f"model{suffix}"
        file.write_bytes(content)
        out = tmp_path / "out"
        self.refused(run("export", file, "-o", out, "--precisions", "float32", "--preprocess", "tf"), file)
        assert not out.exists()

    def test_zip_that_is_no_model(self, tmp_path):
        with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
            archive.writestr("hello.txt", "hello")
        result = run("export", tmp_path / "model.keras", "-o", tmp_path / "out", "--precisions", "float32")
        self.refused(result, "model.keras")

    def test_weights_that_do_not_fit(self, tmp_path):
        args = [*NETWORK[:2], "0.5", *NETWORK[3:]]
        self.refused(run("export", *args, "-o", tmp_path / "out", "--precisions", "float32"), WEIGHTS)

    @pytest.mark.parametrize("what", ["model.keras", "weights"])
    def test_missing_files(self, what, tmp_path):
        if what == "weights":
            args = [*NETWORK[:-1], tmp_path / "none.h5"]
        else:
            args = [tmp_path / "model.keras", "--preprocess", "tf"]
        self.refused(run("export", *args, "-o", tmp_path / "out", "--precisions", "float32"), tmp_path)

    @pytest.mark.parametrize("kind", ["int8.tflite", "int8.onnx"])
    @pytest.mark.parametrize("damage", ["cut", "overwritten", "empty"])
    @pytest.mark.parametrize("command", ["run", "inspect"])
    def test_corrupt_model_files(self, exported, picture, tmp_path, *, kind, damage, command):
        good = (exported[0] / f"mobilenet_v1_0.25_32_{kind}").read_bytes()
        noise = np.random.default_rng(0).bytes(len(good) - 8)
        bad = {"cut": good[: len(good) // 2], "overwritten": good[:8] + noise, "empty": b""}[damage]
        file = tmp_path / f"model.{kind.split('.')[1]}"
        file.write_bytes(bad)
        self.refused(run(command, file, *([picture] if command == "run" else [])), file)

    @pytest.mark.parametrize("command", ["run", "evaluate", "inspect"])
    def test_missing_model(self, command, tmp_path, picture):
        more = {"run": [picture], "evaluate": ["--data", tmp_path], "inspect": []}[command]
        self.refused(run(command, tmp_path / "none.tflite", *more), "none.tflite")

    def test_truncated_jpeg_and_decompression_bomb(self, exported, tmp_path):
        whole = tmp_path / "whole.jpg"
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(whole)
        torn = tmp_path / "torn.jpg"
        torn.write_bytes(whole.read_bytes()[:900])
        bomb = tmp_path / "bomb.png"
        Image.new("1", (40_000, 40_000)).save(bomb)
        for file in (torn, bomb):
            result = run("run", exported[0], file)
            self.refused(result, file)

    def test_empty_folders(self, exported, data, tmp_path):
        empty = tmp_path / "empty"
        empty.mkdir()
        self.refused(run("evaluate", exported[0], "--data", empty), empty, "no images")
        self.refused(run("run", empty, data / "labels.txt"), empty)
        args = ["export", *NETWORK, "-o", tmp_path / "out", "--calibrate"]
        self.refused(run(*args, empty), empty, "no images")
        self.refused(run(*args, tmp_path / "missing"), "missing")

    def test_folders_that_are_no_class(self, exported, data, tmp_path):
        shutil.copytree(data / "held-back" / "3", tmp_path / "data" / "three")
        self.refused(run("evaluate", exported[0], "--data", tmp_path / "data"), "three")

    def test_calibration_images_that_are_evaluated_on(self, data, tmp_path):
        images = data / "held-back"
        args = ["--calibrate", images, "--evaluate", images, "--labels", data / "labels.txt", "--resize", "squash"]
        self.refused(run("export", *NETWORK, "-o", tmp_path / "out", *args), "evaluation set")

    @pytest.mark.parametrize("damage", ["model", "labels", "manifest", "outside", "no manifest"])
    @pytest.mark.parametrize("command", ["run", "evaluate"])
    def test_edited_bundle(self, bundle, picture, data, command, damage):
        manifest = bundle / "manifest.json"
        if damage == "model":
            for file in bundle.glob("*_int8.*"):
                file.write_bytes(file.read_bytes()[:-1] + b"!")
        elif damage == "labels":
            (bundle / "labels.txt").write_text("\n".join("abcdefghij") + "\n")
        elif damage == "manifest":
            manifest.write_text(manifest.read_text()[:-40])
        elif damage == "outside":
            text = manifest.read_text()
            manifest.write_text(text.replace('"mobilenet_v1_0.25_32_int8.tflite"', '"../x_int8.tflite"'))
        else:
            manifest.unlink()
        more = [picture] if command == "run" else ["--data", data / "held-back", "--limit", 5]
        self.refused(run(command, bundle, *more), bundle)

    @pytest.mark.skipif(not hasattr(os, "setresuid"), reason="needs a system with user ids")
    def test_no_permission(self, exported, picture, tmp_path):
        with tempfile.TemporaryDirectory() as name:
            locked, open_to_all = Path(name) / "locked", Path(name) / "picture.png"
            locked.mkdir()
            shutil.copy(picture, open_to_all)
            secret = Path(shutil.copy(exported[0] / "mobilenet_v1_0.25_32_int8.tflite", locked / "secret.tflite"))
            secret.chmod(0)
            locked.chmod(0o555)
            Path(name).chmod(0o755)
            with nobody():
                made = run("export", *NETWORK, "--precisions", "float32", "-o", locked / "out")
                others = [run("run", secret, open_to_all), run("inspect", secret)]
            locked.chmod(0o755)
            assert [path.name for path in locked.iterdir()] == ["secret.tflite"]
        self.refused(made, locked, "permission")
        for result in others:
            self.refused(result, secret, "Permission denied")


@contextmanager
def nobody():
    """Root may write everywhere: be somebody else for a while."""
    root = os.geteuid() == 0
    if root:
        os.setresuid(65534, 65534, 0)
    try:
        yield
    finally:
        if root:
            os.setresuid(0, 0, 0)


def test_ctrl_c_in_the_middle_of_an_export_leaves_what_was_there(bundle, data):
    before = {path.name: path.read_bytes() for path in bundle.iterdir()}
    code = "from mbn_deploy.cli.main import main; main()"
    # Large enough to go on for half a minute; wherever it is after five seconds, it must leave nothing.
    args = ["mobilenet_v2", "--weights", "none", "--calibrate", data / "calibration", "-o", bundle, "--overwrite"]
    child = subprocess.Popen(
        [sys.executable, "-c", code, "export", *map(str, args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    time.sleep(5)
    child.send_signal(signal.SIGINT)
    out, said = child.communicate(timeout=60)
    assert (child.returncode, out) == (130, ""), said
    assert said.endswith("interrupted\n")
    assert "Traceback" not in said
    assert {path.name: path.read_bytes() for path in bundle.iterdir()} == before
    assert [path.name for path in bundle.parent.iterdir()] == ["bundle"]
