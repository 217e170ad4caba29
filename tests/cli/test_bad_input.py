"""Each class of bad input has its exit code: a line that names it, nothing written, nothing lost."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import zipfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from cli_run import NETWORK, WEIGHTS, rest_of, run
from PIL import Image


class TestWrongUse:
    """Exit code 2, before anything is loaded or written."""

    @pytest.mark.parametrize(
        ("args", "said"),
        [
            (["mobilenet_v9"], "did you mean mobilenet_v"),
            (["mobilenet_v1", "--formats", "tflit"], "did you mean tflite"),
            (["mobilenet_v1", "--precisions", "int9"], "did you mean int8"),
            (["mobilenet_v1", "--precisions", "float32,"], "--precisions"),
            (["mobilenet_v1", "--input", "unit8"], "did you mean uint8"),
            (["mobilenet_v1", "--layout", "ncwh"], "did you mean nchw"),
            (["mobilenet_v1", "--resize", "sqash"], "did you mean squash"),
            (["mobilenet_v1", "--preprocess", "tensorflow"], "tensorflow"),
            (["mobilenet_v1", "--preprocess", "127,5/0"], "127,5/0"),
            (["mobilenet_v1", "--filter", "bilinaer"], "did you mean bilinear"),
            (["mobilenet_v1", "--batch", "0"], "batch"),
            (["mobilenet_v1", "--alpha", "-1"], "alpha"),
            (["mobilenet_v1"], "--calibrate"),
            (["model.keras", "--precisions", "float32", "--alpha", "0.5"], "--alpha"),
            (["mobilenet_v1", "--precisions", "float16", "--formats", "onnx"], "float16"),
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
            (["--threads", "0"], "threads"),
            (["--top-k", "0"], "top"),
        ],
    )
    def test_run(self, exported, picture, args, said):
        result = run("run", exported[0], picture, *args)
        assert result.exit_code == 2
        assert said in result.stderr

    def test_evaluate(self, exported, digits):
        args = ["evaluate", exported[0], "--data", digits / "held-back"]
        assert run(*args, "--limit", 0).exit_code == 2
        assert run(*args, "--precision", "int9").exit_code == 2
        assert run(*args, "--backend", "tflite", "--precision", "no").exit_code == 2


class TestUnusableInput:
    """Exit code 3, one line that names the file, nothing written."""

    @staticmethod
    def refused(result, *said):
        assert result.exit_code == 3, (result.stderr, result.exception)
        assert all(str(part) in result.stderr for part in said), result.stderr
        assert "Traceback" not in result.stderr
        assert not result.stdout

    def test_labels_that_do_not_match_the_classes(self, exported, picture, digits, tmp_path):
        nine = tmp_path / "nine.txt"
        nine.write_text("\n".join("123456789"))
        self.refused(run("run", exported[0], picture, "--labels", nine), nine)
        self.refused(run("evaluate", exported[0], "--data", digits / "held-back", "--labels", nine), nine)
        made = run("export", *NETWORK, "-o", tmp_path / "out", "--precisions", "float32", "--labels", nine)
        self.refused(made, nine)
        assert not (tmp_path / "out").exists()

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
        Image.new("1", (15_000, 15_000)).save(bomb)
        for file in (torn, bomb):
            result = run("run", exported[0], file)
            self.refused(result, file)

    def test_empty_folders(self, exported, digits, tmp_path):
        empty = tmp_path / "empty"
        empty.mkdir()
        self.refused(run("evaluate", exported[0], "--data", empty), empty)
        self.refused(run("run", empty, digits / "labels.txt"), empty)
        args = ["export", *NETWORK, "-o", tmp_path / "out", "--calibrate"]
        self.refused(run(*args, empty), empty)
        self.refused(run(*args, tmp_path / "missing"), "missing")

    def test_folders_that_are_no_class(self, exported, digits, tmp_path):
        shutil.copytree(digits / "held-back" / "3", tmp_path / "data" / "three")
        self.refused(run("evaluate", exported[0], "--data", tmp_path / "data"), "three")

    def test_calibration_images_that_are_evaluated_on(self, digits, tmp_path):
        images = digits / "held-back"
        args = ["--calibrate", images, "--evaluate", images, "--labels", digits / "labels.txt", "--resize", "squash"]
        self.refused(run("export", *NETWORK, "-o", tmp_path / "out", *args), "evaluation set")

    @pytest.mark.parametrize("damage", ["model", "labels", "manifest", "outside", "no manifest"])
    @pytest.mark.parametrize("command", ["run", "evaluate"])
    def test_edited_bundle(self, bundle, picture, digits, command, damage):
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
        more = [picture] if command == "run" else ["--data", digits / "held-back", "--limit", 5]
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
        self.refused(made, locked, "ermission")  # ours, or the system's own words
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


@pytest.mark.skipif(os.name == "nt", reason="no pseudo-terminals")
def test_ctrl_c_in_the_middle_of_an_export_leaves_what_was_there(bundle, digits):
    import pty

    before = {path.name: path.read_bytes() for path in bundle.iterdir()}
    code = "from mbn_deploy.cli.main import main; main()"
    args = ["mobilenet_v2", "--weights", "none", "--calibrate", digits / "calibration", "-o", bundle, "--overwrite"]
    screen, end = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-c", code, "export", *map(str, args)], stdout=subprocess.PIPE, stderr=end
    )
    os.close(end)
    shown = b""
    while b"calibrate" not in shown:  # the step's bar
        shown += os.read(screen, 1000)
    child.send_signal(signal.SIGINT)
    said = shown + rest_of(screen)
    out, _ = child.communicate(timeout=60)
    os.close(screen)
    assert (child.returncode, out) == (130, b""), said
    assert said.endswith(b"interrupted\r\n")
    assert b"Traceback" not in said
    assert {path.name: path.read_bytes() for path in bundle.iterdir()} == before
    assert [path.name for path in bundle.parent.iterdir()] == ["bundle"]
