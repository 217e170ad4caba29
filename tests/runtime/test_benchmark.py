"""`benchmark`: real files in turns on real interpreters, what is kept as JSON, and bad input."""

import json
import os
import pty
import signal
import subprocess
import sys
from itertools import pairwise
from statistics import median

import pytest
import runtime_models as models
from cli_run import rest_of, run
from PIL import Image

from mbn_deploy.errors import InputError, UsageError
from mbn_deploy.runtime import Classifier
from mbn_deploy.runtime.benchmark.benchmark import benchmark
from mbn_deploy.runtime.benchmark.comparison import read_benchmark
from mbn_deploy.runtime.benchmark.targets import TargetOptions, read_benchmark_image, synthetic_image
from mbn_deploy.runtime.benchmark.timing import ALL_PHASES, Amount
from mbn_deploy.runtime.system.device import usable_processors
from mbn_deploy.runtime.threads import read_cache

FILES = [
    ("tiny_float32.tflite", "tflite", "float32", models.float_tflite, models.TF, "nhwc"),
    ("tiny_int8.tflite", "tflite", "int8", models.int8_tflite, models.PIXELS, "nhwc"),
    ("tiny_float32.onnx", "onnx", "float32", models.float_onnx, models.TF, "nchw"),
    ("tiny_int8.onnx", "onnx", "int8", models.int8_onnx, models.PIXELS, "nhwc"),
]
FEW = Amount(seconds=None, runs=12, warmup=1)
SHORT = ("--runs", 12, "--warmup", 1, "--openings", 0)


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    """The thread counts' file, in an empty folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "mbn-deploy" / "threads.json"


@pytest.fixture
def tiny(tmp_path):
    """A bundle of four tiny files."""
    folder = tmp_path / "dist"
    models.write_bundle(folder, [(name, kind, p, make(), pre, lay) for name, kind, p, make, pre, lay in FILES])
    return folder


@pytest.fixture
def lone(tmp_path):
    path = tmp_path / "lone.tflite"
    path.write_bytes(models.int8_tflite())
    return path


@pytest.fixture
def measured(lone, tmp_path):
    """(the file, the JSON of a measurement of it)."""
    assert run("benchmark", lone, *SHORT, "-o", tmp_path / "old.json").exit_code == 0
    return lone, tmp_path / "old.json"


def test_every_file_of_a_bundle_is_measured_in_turns(tiny):
    found = benchmark([tiny], amount=FEW, openings=0, threads=(1, 2))
    assert [(c.file, c.threads) for c in found.cases] == [(name, n) for name, *_ in FILES for n in (1, 2)]
    for case in found.cases:
        assert case.runs == 12 == sum(block.runs for block in case.blocks)
        assert set(case.quantiles) == set(ALL_PHASES)
        for q in case.quantiles.values():
            assert 0 < q["min"] <= q["p50"] <= q["p90"] <= q["p99"]
        parts = [case.quantiles[phase]["mean"] for phase in ALL_PHASES]
        assert sum(parts[:3]) == pytest.approx(parts[3])
        assert all(block.yardstick > 0 for block in case.blocks)
    # Each of the four rounds is over before the next begins.
    rounds = [sorted(case.blocks[turn].at for case in found.cases) for turn in range(4)]
    assert all(first[-1] < second[0] for first, second in pairwise(rounds))


def test_block_medians_are_those_of_the_runs(lone):
    found = benchmark([lone], amount=Amount(seconds=None, runs=41, warmup=0), openings=0).cases[0]
    assert [block.runs for block in found.blocks] == [2] * 20 + [1]
    middle = median(block.inference for block in found.blocks)
    assert found.quantiles["inference"]["min"] <= middle <= found.quantiles["inference"]["p99"]


def test_seconds_are_seconds_of_each_file(tiny):
    found = benchmark([tiny], options=TargetOptions(precision="int8"), amount=Amount(seconds=0.4, warmup=1), openings=0)
    assert [case.file for case in found.cases] == ["tiny_int8.tflite", "tiny_int8.onnx"]
    for case in found.cases:
        assert len(case.blocks) > 1
        assert case.blocks[-1].at >= 0.2  # two files of 0.4 s took turns, whatever a block takes longer


@pytest.mark.parametrize("backend", ["litert", "onnx"])
def test_opening_is_measured_in_a_process_of_its_own(tiny, backend):
    (case, *_) = benchmark(
        [tiny], options=TargetOptions(precision="float32", backend=backend), amount=FEW, openings=2
    ).cases
    cost = case.cost
    assert case.cost_absent is None
    assert min(cost.import_seconds, cost.open_seconds, cost.first_seconds) > 0
    assert cost.memory_before < cost.memory_imported < cost.memory_after <= cost.memory_peak
    # This process holds TensorFlow and the whole of the tests; the child does not.
    assert cost.memory_peak < 250e6


def test_where_no_process_can_be_started_that_is_said(lone, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(lone))  # no program at all
    found = benchmark([lone], amount=FEW)
    assert found.cases[0].cost is None
    assert any(found.cases[0].cost_absent in note for note in found.notes)


def test_the_classifier_and_the_steps_that_are_timed_agree(tiny):
    for name, *_ in FILES:
        with Classifier.open(tiny / name) as classifier:
            image = synthetic_image().data
            steps = classifier.rank(classifier.run_raw(classifier.prepare(image)), 5)
            assert steps == classifier.classify(image, 5)


def test_json_holds_machine_versions_units_and_blocks(tiny, tmp_path):
    out = tmp_path / "new.json"
    done = run("benchmark", tiny, *SHORT, "--precision", "int8", "--threads", "1", "-o", out, "--json")
    assert done.exit_code == 0, done.stderr
    data = json.loads(done.stdout)
    assert data == json.loads(out.read_text())
    assert data == read_benchmark(out)
    assert data["machine"]["processors"] == usable_processors()
    assert {"python", "numpy", "pillow", "ai-edge-litert", "onnxruntime"} <= set(data["software"])
    assert data["units"]["times"] == "seconds"
    assert data["picture"]["width"] == 640
    for case in data["cases"]:
        assert case["threads_from"] == "option"
        assert len(case["sha256"]) == 64
        assert len(case["blocks"]) == 4
    assert data["before"].keys() >= {"governors", "temperatures", "throttled", "load"}
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != "cache") == ["dist", "new.json"]


def test_the_screen_of_one_file(lone):
    done = run("benchmark", lone, *SHORT, "--openings", 1)
    assert done.exit_code == 0, done.stderr
    for words in ("p50", "p99", "decode, resize", "inference", "ranking", "total", "images per second", "memory"):
        assert words in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "(default)" in done.stdout


def test_the_screen_of_several_files(tiny):
    done = run("benchmark", tiny, *SHORT, "--threads", "1,2", "--openings", 1)
    assert done.exit_code == 0, done.stderr
    assert all(name in done.stdout for name, *_ in FILES)
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "in turns" in done.stdout


def test_a_picture_of_ones_own(lone, tmp_path):
    Image.fromarray(models.pictures(1)[0]).save(tmp_path / "mine.png")
    data = json.loads(run("benchmark", lone, *SHORT, "--image", tmp_path / "mine.png", "--json").stdout)
    assert (data["picture"]["width"], data["picture"]["height"]) == models.SIZE[::-1]
    assert data["picture"]["source"] == str(tmp_path / "mine.png")


def test_tuning_is_kept_and_used(tiny, cache):
    done = run("benchmark", tiny, *SHORT, "--precision", "float32", "--tune", "--json")
    assert done.exit_code == 0, done.stderr
    data = json.loads(done.stdout)
    counts = {case["threads"] for case in data["cases"]}
    assert counts >= {1, usable_processors()}
    assert data["kept"] == [str(cache)]
    assert len(read_cache()) == len(data["tuned"]) == 2
    with Classifier.open(tiny, precision="float32") as classifier:
        assert classifier.info.threads_from == "tuned"
        assert str(classifier.info.threads) in data["tuned"][0]["medians"]
    assert "(tuned)" in run("benchmark", tiny / "tiny_float32.onnx", *SHORT).stdout


def test_tuning_that_cannot_be_kept_says_so(lone, cache):
    cache.mkdir(parents=True)
    done = run("benchmark", lone, *SHORT, "--tune")
    assert done.exit_code == 0
    assert str(cache) in done.stderr
    assert "best" in done.stdout


def test_tuning_of_a_bundle_goes_into_its_manifest(tiny, cache):
    done = run("benchmark", tiny, *SHORT, "--precision", "int8", "--tune-bundle", "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["kept"] == [str(tiny / "manifest.json")]
    assert not cache.exists()
    with Classifier.open(tiny, precision="int8") as classifier:
        assert classifier.info.threads_from == "tuned"


def test_a_file_that_is_refused_is_named_and_the_others_are_measured(tiny):
    (tiny / "tiny_int8.tflite").write_bytes(b"damaged")
    done = run("benchmark", tiny, *SHORT, "--json")
    assert done.exit_code == 3
    assert "tiny_int8.tflite" in done.stderr
    assert [case["file"] for case in json.loads(done.stdout)["cases"]] == [
        n for n, *_ in FILES if n != "tiny_int8.tflite"
    ]


def test_two_files_of_one_name_are_told_apart(lone, tmp_path):
    (tmp_path / "other").mkdir()
    second = tmp_path / "other" / lone.name
    second.write_bytes(models.float_tflite())
    assert [case.file for case in benchmark([lone, second], amount=FEW, openings=0).cases] == [str(lone), str(second)]


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--threads", "0"], 2, "--threads"),
        (["--threads", "1,x"], 2, "--threads"),
        (["--threads", "1,,2"], 2, "--threads"),
        (["--threads", "-1"], 2, "--threads"),
        (["--runs", "0"], 2, "--runs"),
        (["--runs", "5", "--seconds", "1"], 2, "--seconds"),
        (["--seconds", "0"], 2, "--seconds"),
        (["--seconds", "nan"], 2, "--seconds"),
        (["--warmup", "-1"], 2, "--warmup"),
        (["--openings", "-1"], 2, "--openings"),
        (["--tune", "--threads", "2"], 2, "--threads"),
        (["--tune-bundle"], 2, "--tune-bundle"),
        (["--backend", "onnx"], 2, "'onnx'"),
        (["--backend", "litter"], 2, "litert"),
        (["--precision", "int4"], 2, "int4"),
        (["--image", "missing.jpg"], 3, "missing.jpg"),
        (["--image", __file__], 3, "test_benchmark.py"),
        (["--compare", "missing.json"], 3, "missing.json"),
        (["--compare", __file__], 3, "test_benchmark.py"),
        (["-o", "/nowhere/at/all.json"], 2, "/nowhere/at/all.json"),
        (["-o", __file__], 2, "test_benchmark.py"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_wrong_use_and_bad_input(lone, options, code, words):
    done = run("benchmark", lone, *options)
    assert done.exit_code == code, done.output
    assert words in done.stderr
    assert not done.stdout
    assert "Traceback" not in done.stderr


def test_what_a_file_does_not_say_is_asked_for(tmp_path):
    path = tmp_path / "foreign.tflite"
    path.write_bytes(models.int8_tflite(described=False))
    assert "--resize" in run("benchmark", path, *SHORT).stderr
    assert run("benchmark", path, *SHORT, "--resize", "squash").exit_code == 0


def test_missing_files_and_empty_bundles(tmp_path, tiny):
    assert run("benchmark", tmp_path / "missing.tflite").exit_code == 3
    assert run("benchmark", tmp_path).exit_code == 3
    models.edit_manifest(tiny, lambda data: data.update(files=[]))
    assert run("benchmark", tiny).exit_code == 3
    with pytest.raises(UsageError):
        benchmark([])
    with pytest.raises(InputError, match=r"manifest\.json"):
        read_benchmark_image(tiny / "manifest.json")


def test_only_files_of_the_interpreters_that_are_there(tiny, monkeypatch):
    from mbn_deploy.runtime import backends, file_choice

    for module in (backends, file_choice):
        monkeypatch.setattr(module, "installed", lambda name: name == "litert")
    found = benchmark([tiny], amount=FEW, openings=0)
    assert [case.backend for case in found.cases] == ["litert"] * 2
    assert any("onnxruntime" in note and "tiny_float32.onnx, tiny_int8.onnx" in note for note in found.notes)


def test_hostile_names_do_not_reach_the_terminal(tmp_path):
    path = tmp_path / "\x1b[31mred.tflite"
    path.write_bytes(models.int8_tflite())
    done = run("benchmark", path, *SHORT)
    assert done.exit_code == 0
    assert "\x1b" not in done.stdout
    assert "\\x1b[31mred.tflite" in done.stdout


def test_comparison_on_the_screen(measured):
    path, old = measured
    done = run("benchmark", path, *SHORT, "--compare", old)
    assert done.exit_code == 0, done.stderr
    assert "time now / then" in done.stdout
    shown = "".join(done.stdout.split())  # a long path is broken anywhere
    assert f"{old}" in shown
    assert "noverdict:12blocks" in shown
    assert max(map(len, done.stdout.replace(str(old), "").splitlines())) <= 80


def test_another_machine_is_said_and_gets_no_verdict(measured):
    path, old = measured
    data = json.loads(old.read_text())
    data["machine"]["key"] = "Linux/abacus"
    slow = [block | {"inference": 100 * block["inference"]} for block in data["cases"][0]["blocks"]]
    data["cases"][0]["blocks"] = slow * 4  # enough for one
    old.write_text(json.dumps(data))
    found = json.loads(run("benchmark", path, "--runs", 60, "--compare", old, "--json").stdout)["comparison"]
    assert not found["same_machine"]
    assert {p["verdict"] for p in found["cases"][0]["phases"].values()} == {"no verdict"}
    assert any("Linux/abacus then" in remark for remark in found["remarks"])


@pytest.mark.parametrize(
    "change", ["[]", "{}", '{"kind": "mbn-deploy benchmark"}', "nothing", "text", "zero", "version"]
)
def test_a_damaged_measurement_is_refused(measured, change):
    path, old = measured
    data = json.loads(old.read_text())
    if change == "nothing":
        data["cases"][0]["blocks"] = []
    elif change == "text":
        data["cases"][0]["blocks"][0]["total"] = "1"
    elif change == "zero":
        data["cases"][0]["blocks"][0]["yardstick"] = 0
    elif change == "version":
        data["schema_version"] = 9
    old.write_text(change if change[0] in "[{" else json.dumps(data))
    done = run("benchmark", path, *SHORT, "--compare", old)
    assert done.exit_code == 3, done.output
    assert str(old) in done.stderr


def test_an_older_measurement_is_replaced(measured):
    path, old = measured
    before = old.read_text()
    assert run("benchmark", path, *SHORT, "-o", old).exit_code == 0
    assert old.read_text() != before
    read_benchmark(old)


def test_ctrl_c_leaves_nothing_half_written(lone, tmp_path):
    """Pressed while it measures, which the bar on the terminal tells."""
    screen, end = pty.openpty()
    command = [sys.executable, "-c", "from mbn_deploy.cli.main import main; main()"]
    words = [*command, "benchmark", str(lone), "--seconds", "600", "-o", str(tmp_path / "out.json")]
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "80"}
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=end, env=environment) as process:
        os.close(end)
        shown = b""
        while b"measuring" not in shown:
            shown += os.read(screen, 1000)
        process.send_signal(signal.SIGINT)
        shown += rest_of(screen)
        assert process.wait(60) == 130, shown
        assert process.stdout.read() == b""
    assert b"interrupted" in shown
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {"lone.tflite", "cache/mbn-deploy/trials.json"}  # the trial was passed before
