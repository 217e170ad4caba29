"""Sweeps in this process and in processes of this machine: what is made, kept, made again, recorded, compared."""

import csv
import io
import json
import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib import resources
from pathlib import Path

import pytest
from cli_run import run
from serving import START

from mbn_deploy.bundle.open import Bundle
from mbn_deploy.errors import InputError, UsageError
from mbn_deploy.pipeline.options import ExportOptions
from mbn_deploy.sweep import plan
from mbn_deploy.sweep.pareto import front
from mbn_deploy.sweep.processes import Processes
from mbn_deploy.sweep.run import sweep
from mbn_deploy.sweep.table import Row, to_csv
from mbn_deploy.sweep.write import write_tables

DEMO = str(resources.files("mbn_deploy.demo"))
V1, V2 = "mobilenet_v1_0.25_32", "mobilenet_v2_0.15_32"


@pytest.fixture(scope="session")
def options(digits):
    """Of an evaluated sweep."""
    return {
        "precisions": ("float32", "int8"), "formats": ("tflite",), "resize": "squash", "calibration_count": 50,
        "calibrate": digits / "calibration", "evaluate": digits / "held-back", "labels": digits / "labels.txt",
    }  # fmt: skip


def demo_variants():
    of = {"classes": 10, "weights": DEMO}
    return plan.networks(["mobilenet_v1"], [0.25], [32], **of) + plan.networks(["mobilenet_v2"], [0.15], [32], **of)


@pytest.fixture(scope="session")
def swept(options, tmp_path_factory):
    """Two variants in this process, evaluated in chunks of 64 images."""
    out = tmp_path_factory.mktemp("sweep") / "out"
    return sweep(demo_variants(), out, ExportOptions(**options), chunk=64, latency=0.05)


def manifest(folder):
    return json.loads((folder / "manifest.json").read_bytes())


def stamps(out):
    return {path: path.stat().st_mtime_ns for path in out.glob("*/*") if path.is_file()}


def test_a_front_is_what_no_other_point_beats():
    rng = random.Random(0)  # noqa: S311 - no secret
    for _ in range(200):
        points = [(rng.randint(1, 6), rng.randint(1, 6)) for _ in range(rng.randint(0, 12))]
        beaten = [any(a <= c and b >= g and (a, b) != (c, g) for a, b in points) for c, g in points]
        assert front(points) == [not lost for lost in beaten], points


def test_each_variant_is_a_bundle_and_its_numbers_are_those_of_an_export_in_one_piece(swept, options, tmp_path):
    from mbn_deploy.models.api import build
    from mbn_deploy.pipeline.export import export_model

    model = build("mobilenet_v1", alpha=0.25, size=32, classes=10, weights=f"{DEMO}/{V1}.weights.h5")
    alone = export_model(model, tmp_path / "alone", report=False, **options).bundle
    assert manifest(swept.folder / V1) == manifest(alone.folder)
    assert {p.name: p.read_bytes() for p in (swept.folder / V1).iterdir()} == {
        p.name: p.read_bytes() for p in alone.folder.iterdir()
    }


def test_images_of_the_evaluation_are_not_calibrated_on(options, digits, tmp_path):
    """The evaluation comes later than the export here, and yet the two must not share an image."""
    shared = dict(options) | {"calibrate": digits / "held-back"}
    found = sweep(demo_variants()[:1], tmp_path / "out", ExportOptions(**shared), latency=0)
    assert [r.exit_code for r in found.failures] == [3]
    assert "calibrat" in found.failures[0].error


def test_the_table_has_a_row_a_file_and_the_fronts(swept):
    data = json.loads((swept.folder / "table.json").read_bytes())
    lines = list(csv.DictReader(io.StringIO((swept.folder / "table.csv").read_text())))
    assert [row["file"] for row in data["rows"]] == [row["file"] for row in lines] == [row.file for row in swept.rows]
    assert len(lines) == 4
    for row in data["rows"]:
        metrics = Bundle.read(swept.folder / row["variant"]).metrics
        assert row["top1"] == metrics["files"][row["file"]]["top1"]["value"] > 0.9
        assert row["keras_top1"] == metrics["reference"]["top1"]["value"]
        assert 0 < row["latency_p50"] <= row["latency_p90"]
    best = max(data["rows"], key=lambda row: (row["top1"], -row["bytes"]))
    assert best["size_front"]
    page = (swept.folder / "table.html").read_text()
    assert page.count("<svg") == 2
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")


def test_what_stands_is_not_made_again_and_changed_options_make_it_again(swept, options, tmp_path):
    before = stamps(swept.folder)
    again = sweep(demo_variants(), swept.folder, ExportOptions(**options), chunk=64, latency=0.05)
    assert again.made == 0
    changed = {path.name for path, stamp in stamps(swept.folder).items() if before[path] != stamp}
    assert changed == set()
    assert again.rows == swept.rows
    out = tmp_path / "out"
    small = ExportOptions(precisions="float32", formats="tflite", resize="squash")
    assert sweep(demo_variants(), out, small, latency=0).made == 2
    assert sweep(demo_variants(), out, small, latency=0).made == 0
    assert sweep(demo_variants()[:1], out, replace(small, resize="crop"), latency=0).made == 1
    (out / V2 / f"{V2}_float32.tflite").write_bytes(b"damaged")
    assert sweep(demo_variants()[1:], out, small, latency=0).made == 1
    (out / V2 / "manifest.json").unlink()
    (out / "records" / f"{V2}.json").write_text("{")
    for path in (out / V2).iterdir():
        path.unlink()
    assert sweep(demo_variants()[1:], out, small, latency=0).made == 1
    Bundle.read(out / V2)


def test_a_failure_is_recorded_and_the_rest_goes_on(tmp_path):
    """A file that is no model, one that is not there, weights that nobody published."""
    from mbn_deploy.models.api import build

    build("mobilenet_v2", alpha=0.15, size=32, classes=3).save(tmp_path / "good.keras")
    (tmp_path / "bad.keras").write_bytes(b"no model")
    variants = plan.files([tmp_path / "bad.keras", tmp_path / "good.keras", tmp_path / "none.h5"])
    variants += plan.networks(["mobilenet_v1"], [0.3], [32])
    small = ExportOptions(precisions="float32", formats="tflite", preprocess="tf")
    found = sweep(variants, tmp_path / "out", small, latency=0)
    assert [(r.name, r.status, r.exit_code) for r in found.records] == [
        ("bad", "failed", 3), ("good", "done", 0), ("none", "failed", 3), ("mobilenet_v1_0.3_32", "failed", 2),
    ]  # fmt: skip
    assert [(row.variant, row.file is None) for row in found.rows] == [
        ("bad", True), ("good", False), ("none", True), ("mobilenet_v1_0.3_32", True),
    ]  # fmt: skip
    assert "What failed" in (tmp_path / "out" / "table.html").read_text()
    build("mobilenet_v2", alpha=0.15, size=32, classes=3).save(tmp_path / "bad.keras")
    repaired = sweep(variants, tmp_path / "out", small, latency=0)
    assert (repaired.made, [r.name for r in repaired.failures]) == (3, ["none", "mobilenet_v1_0.3_32"])


def test_a_verdict_of_the_accuracy_guard_stands_and_leaves_the_other_files(options, tmp_path, digits):
    """One scale a tensor and ranges of ten pictures cost this network something, and nothing may be lost."""
    strict = {"max_drop": 0.0, "calibration_count": 10, "recipe": "int8", "granularity": "per-tensor"}
    requested = ExportOptions(**dict(options) | strict)
    variants = plan.networks(["mobilenet_v2"], [0.15], [32], classes=10, weights=DEMO)
    found = sweep(variants, tmp_path / "out", requested, latency=0)
    assert [(r.status, r.exit_code) for r in found.records] == [("failed", 5)]
    assert [row.precision for row in found.rows] == ["float32", None]
    assert sweep(variants, tmp_path / "out", requested, latency=0).made == 0


def test_random_weights_are_the_same_everywhere(tmp_path):
    small = ExportOptions(precisions="float32", formats="tflite")
    variants = plan.networks(["mobilenet_v2"], [0.1], [32], classes=3, weights="none")
    one, two = (sweep(variants, tmp_path / name, small, latency=0) for name in ("one", "two"))
    assert manifest(one.folder / variants[0].name) == manifest(two.folder / variants[0].name)


def test_any_executor_does(options, swept, tmp_path):
    """Threads, too: tasks of one process take turns."""
    with ThreadPoolExecutor(3) as executor:
        found = sweep(
            demo_variants(), tmp_path / "out", ExportOptions(**options), executor=executor, chunk=96, latency=0
        )
    for name in (V1, V2):
        assert manifest(found.folder / name) == manifest(swept.folder / name)


@pytest.mark.slow
def test_processes_of_this_machine_give_the_same_numbers(options, swept, tmp_path):
    with Processes(2) as executor:
        found = sweep(
            demo_variants(), tmp_path / "out", ExportOptions(**options), executor=executor, chunk=64, latency=0
        )
    for name in (V1, V2):
        assert manifest(found.folder / name) == manifest(swept.folder / name)


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def test_processes_end_with_a_sweep_that_is_killed(tmp_path):
    """Nobody else could end them."""
    for name in ("keras", "tensorflow"):  # which takes no time to import
        (tmp_path / f"{name}.py").write_text("raise ImportError")
    program = tmp_path / "program.py"
    program.write_text(
        "import os\n"
        "from mbn_deploy.sweep.processes import Processes\n"
        "if __name__ == '__main__':\n"
        "    with Processes(1) as executor:\n"
        "        print(executor.submit(os.getpid).result(), flush=True)\n"
        "        input()\n"
    )
    paths = os.pathsep.join([str(tmp_path), *sys.path])
    with subprocess.Popen(
        [sys.executable, program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": paths},
    ) as parent:
        child = int(parent.stdout.readline())
        parent.kill()
    for _ in range(600):
        if not is_running(child):
            return
        time.sleep(0.1)
    os.kill(child, signal.SIGKILL)
    pytest.fail("the process is still there")


def is_running(process):
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_a_process_that_is_killed_takes_its_task_along_and_no_other():
    with Processes(2) as executor:
        futures = [executor.submit(die), *(executor.submit(abs, -n) for n in range(4))]
        with pytest.raises(InputError, match="was killed"):
            futures[0].result(timeout=300)
        assert [future.result(timeout=300) for future in futures[1:]] == [0, 1, 2, 3]


@pytest.mark.slow
def test_ctrl_c_leaves_what_the_next_start_goes_on_from(options, tmp_path):
    out = tmp_path / "out"
    command = [
        sys.executable, "-c", START, "sweep", "-o", out, "--models", "mobilenet_v1,mobilenet_v2", "--alphas",
        "0.15,0.2,0.3", "--sizes", "32", "--classes", "10", "--weights", "none", "--formats", "tflite", "--precisions",
        "float32", "--seconds", "0", "--jobs", "2", "--json",
    ]  # fmt: skip
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 300
    while not list(out.glob("records/*.json")):
        assert child.poll() is None, child.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    child.send_signal(signal.SIGINT)
    stdout, stderr = child.communicate(timeout=300)
    assert (child.returncode, stdout) == (130, ""), stderr
    assert stderr.splitlines()[-1] == "interrupted"
    done = {path.stem for path in out.glob("records/*.json")}
    assert [path for path in out.rglob("*") if path.name.endswith(".tmp")] == []
    for name in done:
        assert json.loads((out / "records" / f"{name}.json").read_bytes())["status"] == "done"
        Bundle.read(out / name)
    again = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert again.returncode == 0, again.stderr
    found = json.loads(again.stdout)
    assert len({row["variant"] for row in found["rows"]}) == 6
    assert found["made"] == 6 - len(done)


@pytest.mark.slow
def test_the_command_prints_a_table_and_ends_with_the_failures_code(options, digits, tmp_path):
    command = [
        "sweep", "-o", tmp_path / "out", "--models", "mobilenet_v1", "--alphas", "0.25,0.5", "--sizes", "32",
        "--classes", 10, "--weights", DEMO, "--formats", "tflite", "--calibrate", options["calibrate"],
        "--calibration-count", 50, "--evaluate", options["evaluate"], "--labels", options["labels"],
        "--resize", "squash", "--seconds", 0.05,
    ]  # fmt: skip
    result = run(*command)
    assert result.exit_code == 3
    assert f"{V1}_int8.tflite" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert "mobilenet_v1_0.5_32.weights.h5: there is no such weights file" in result.stderr
    data = json.loads(run(*command, "--json").stdout)
    assert data["made"] == 1  # what failed is tried again
    assert sum(row["file"] is not None for row in data["rows"]) == 2


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ([], 2, "--models"),
        (["--models", "mobilenet_v9"], 2, "mobilenet_v9"),
        (["--models", "mobilenet_v1", "--alphas", "a"], 2, "--alphas 'a'"),
        (["--models", "mobilenet_v1", "--alphas", "inf"], 2, "--alphas 'inf'"),
        (["--models", "mobilenet_v1", "--sizes", "32.5"], 2, "--sizes '32.5'"),
        (["--models", "mobilenet_v1", "--sizes", "16"], 2, "at least 32"),
        (["--models", "mobilenet_v1", "--sizes", "9" * 400], 2, "--sizes"),
        (["--files", "x/records.keras", "--precisions", "float32"], 2, "records"),
        (["--files", "table.csv.keras", "--precisions", "float32"], 2, "table.csv"),
        (["--models", "mobilenet_v1"], 2, "--calibrate"),
        (["--models", "mobilenet_v1", "--precisions", "float32", "--weights", "/nowhere"], 3, "/nowhere"),
        (["--files", "a.keras", "--alphas", "1"], 2, "--alphas"),
        (["--files", "x/a.keras,y/a.keras", "--precisions", "float32"], 2, "called a"),
        (["--models", "mobilenet_v1", "--precisions", "float32", "--jobs", "0"], 2, "jobs"),
        (["--models", "mobilenet_v1", "--precisions", "float32", "--seconds", "-1"], 2, "-1"),
        (["--models", "mobilenet_v1", "--jobs", "2", "--dask", "tcp://a:1"], 2, "--dask"),
        (["--models", "mobilenet_v1", "--precisions", "float32", "--evaluate", "/nowhere"], 3, "/nowhere"),
    ],
)
def test_what_makes_no_sense_is_said_before_anything_is_started(words, code, said, tmp_path):
    result = run("sweep", "-o", tmp_path / "out", *words)
    assert (result.exit_code, result.stdout) == (code, ""), result.stderr
    assert said in result.stderr


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(UsageError, match="holds no sweep"):
        sweep(demo_variants(), tmp_path, ExportOptions(precisions="float32"))
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_names_from_outside_are_text_in_every_table(tmp_path):
    bad = "=cmd()<script>alert(1)</script>\x1b[2J"
    row = Row(bad, bad, None, None, None, error=bad, exit_code=3)
    file = Row("v", bad, 1.0, 32, 32, "tflite", "int8", bad, 10, top1=0.5, top1_low=0.4, top1_high=0.6, score="top1")
    write_tables(tmp_path, [row, file], None)
    page = (tmp_path / "table.html").read_text()
    assert "<script" not in page
    assert "\x1b" not in page
    lines = list(csv.DictReader(io.StringIO(to_csv([row, file]))))
    assert lines[0]["variant"] == "'" + bad
    assert json.loads((tmp_path / "table.json").read_text())["rows"][0]["error"] == bad


def test_a_fingerprint_knows_what_is_in_the_files(tmp_path, digits):
    weights = tmp_path / "weights"
    weights.mkdir()
    path = weights / "mobilenet_v1_0.25.h5"
    path.write_bytes(b"one")

    def fingerprint(**options):
        variants = plan.networks(["mobilenet_v1"], [0.25], [32], weights=weights)
        return plan.plan_jobs(variants, tmp_path / "out", ExportOptions(precisions="float32", **options))[0].fingerprint

    first = fingerprint()
    assert first == fingerprint()
    assert first != fingerprint(seed=1)
    with_labels = fingerprint(labels=digits / "labels.txt")
    assert with_labels == fingerprint(labels=str(digits / "labels.txt")) != first
    path.write_bytes(b"two")
    assert fingerprint() != first
    images = tmp_path / "images"
    images.mkdir()
    (images / "a.png").write_bytes(b"a")
    one = fingerprint(evaluate=images)
    (images / "b.png").write_bytes(b"b")
    assert fingerprint(evaluate=images) != one
