"""Commands that read and write files, on a real bundle."""

import json
import os
import subprocess
import sys

import pytest
from cli_run import NETWORK, rest_of, run


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
    assert sorted(path.suffix for path in bundle.iterdir()) == [".html", ".json", ".npz", ".tflite"]
    assert "mobilenet_v1_0.25_32_float32.tflite" in replaced.stdout
    assert f"mbn-deploy run {bundle} IMAGE" in replaced.stderr


def test_evaluate_agrees_with_the_manifest(exported, digits):
    folder, said = exported
    result = run("evaluate", folder, "--data", digits / "held-back", "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    measured = said["manifest"]["metrics"]["files"]
    assert set(found["accuracy"]) == set(measured)
    for name, accuracy in found["accuracy"].items():
        assert accuracy["top1"]["value"] == pytest.approx(measured[name]["top1"]["value"])
    compared = found["comparison"]["mobilenet_v1_0.25_32_int8.onnx"]
    assert compared["reference"] == "mobilenet_v1_0.25_32_float32.tflite"
    assert compared["agreement"]["value"] > 0.95


def test_evaluate_of_one_file_and_of_fewer_images(exported, digits):
    file = exported[0] / "mobilenet_v1_0.25_32_int8.tflite"
    result = run("evaluate", file, "--data", digits / "held-back", "--limit", 40)
    assert result.exit_code == 0
    assert "40 images of 'held-back'" in result.stdout
    assert "agrees" not in result.stdout  # there is nothing to agree with
    of_bundle = run("evaluate", exported[0], "--data", digits / "held-back", "--limit", 40, "--precision", "int8")
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
def test_progress_goes_to_the_terminal_and_data_to_stdout(exported, digits):
    import pty

    screen, end = pty.openpty()
    code = "from mbn_deploy.cli.main import main; main()"
    args = ["evaluate", str(exported[0]), "--data", str(digits / "held-back"), "--json"]
    child = subprocess.Popen([sys.executable, "-c", code, *args], stdout=subprocess.PIPE, stderr=end)
    os.close(end)
    shown = rest_of(screen).decode()
    os.close(screen)
    out, _ = child.communicate(timeout=60)
    assert child.returncode == 0
    assert json.loads(out)["images"] == 500
    assert "load evaluation images" in shown
    assert "500/500" in shown
    assert "XNNPACK" not in shown  # the interpreter's greeting


@pytest.mark.parametrize("command", ["run", "evaluate"])
def test_interpreters_do_not_greet(exported, digits, picture, command):
    """Their C++ parts write to the process's stderr: only a process of its own shows it."""
    more = [picture] if command == "run" else ["--data", digits / "held-back", "--limit", "5"]
    code = "from mbn_deploy.cli.main import main; main()"
    args = map(str, [sys.executable, "-c", code, command, exported[0], *more])
    said = subprocess.run(list(args), capture_output=True, text=True, check=True).stderr
    assert said == ""
