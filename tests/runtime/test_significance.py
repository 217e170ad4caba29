"""The rule of verdicts: on rows whose truth is known, and on real files measured in turns."""

import json

import numpy as np
import pytest
import runtime_models as models
from cli_run import run
from patience import measured_until

from mbn_deploy.runtime.benchmark.benchmark import benchmark
from mbn_deploy.runtime.benchmark.comparison import compare_benchmarks
from mbn_deploy.runtime.benchmark.significance import FLOOR, MIN_BLOCKS, MOST_BLOCKS, Samples, difference
from mbn_deploy.runtime.benchmark.timing import Amount, Block, steadiness


def row(level=1.0, *, count=40, spread=0.05, machine=1.0, seed=0, yardstick=True):
    rng = np.random.default_rng(seed)
    medians = 1e-3 * level * machine * np.exp(spread * rng.normal(size=count))
    beside = 2e-3 * machine * np.exp(0.02 * rng.normal(size=count))
    return Samples(medians.tolist(), beside.tolist() if yardstick else ())


def test_real_differences_are_seen_in_both_directions():
    slower = difference(row(), row(1.3, seed=1))
    assert slower.verdict == "slower"
    assert slower.measured.low < 1.3 < slower.measured.high
    assert str(slower).startswith("slower, 1.")
    assert difference(row(1.3, seed=1), row()).verdict == "faster"


@pytest.mark.parametrize("yardstick", [True, False])
def test_equal_rows_are_equal(yardstick):
    """The certainty is 99 %, and the floor comes on top: none of fifty pairs."""
    pairs = [(row(seed=2 * n, yardstick=yardstick), row(seed=2 * n + 1, yardstick=yardstick)) for n in range(50)]
    assert {difference(*pair).verdict for pair in pairs} == {"no difference"}


def test_less_than_the_floor_is_no_difference():
    before = row(spread=1e-4, yardstick=False)
    for level, verdict in ((FLOOR - 0.01, "no difference"), (FLOOR + 0.01, "slower")):
        now = row(level, spread=1e-4, yardstick=False)
        assert difference(before, now).verdict == verdict
        assert difference(now, before).verdict == verdict.replace("slower", "faster")


def test_a_machine_that_is_slower_as_a_whole_is_not_the_file():
    found = difference(row(), row(machine=1.5, seed=1))
    assert found.verdict == "no difference"
    assert found.measured.low > 1.4
    assert found.corrected.low < 1.05
    assert difference(row(yardstick=False), row(machine=1.5, seed=1)).verdict == "slower"
    assert difference(row(), row(1.5, machine=1.5, seed=1)).verdict == "slower"


def width(medians):
    ratio = difference(row(spread=1e-4, yardstick=False), Samples(list(medians))).measured
    return ratio.high - ratio.low


def test_a_drift_widens_the_interval():
    """The same numbers, once as they drifted (each 0.8 of the last one's deviation) and once in any order."""
    rng = np.random.default_rng(0)
    drifting = []
    for _ in range(20):
        steps = rng.normal(size=60)
        for n in range(1, 60):
            steps[n] = 0.8 * steps[n - 1] + 0.6 * steps[n]
        drifting.append(1e-3 * np.exp(0.05 * steps))
    widths = [sum(width(order(steps)) for steps in drifting) for order in (lambda steps: steps, rng.permutation)]
    assert widths[0] > 1.3 * widths[1]


def test_a_single_outlier_changes_nothing():
    medians = list(row().medians)
    medians[7] *= 1000
    assert difference(row(seed=1), Samples(medians, row().yardstick)).verdict == "no difference"


def test_few_blocks_get_no_verdict():
    found = difference(row(count=MIN_BLOCKS - 1), row(3, count=100))
    assert found.verdict == "no verdict"
    assert found.measured.value == pytest.approx(3, rel=0.1)
    assert str(MIN_BLOCKS) in str(found)
    assert difference(row(count=1), row(count=1), least=1).verdict == "no difference"


def test_long_rows_are_thinned_and_the_same_rows_give_the_same_answer():
    long = row(count=10 * MOST_BLOCKS), row(1.2, count=10 * MOST_BLOCKS, seed=1)
    assert difference(*long) == difference(*long)
    assert difference(*long).verdict == "slower"


def blocks(totals, length=0.5):
    return [Block(length * n, 1, 1e-3, t, t, t, t) for n, t in enumerate(totals)]


def test_steady_state_against_burst():
    rng = np.random.default_rng(0)
    noise = 1 + 0.01 * rng.normal(size=60)
    throttled = steadiness(blocks(noise * np.where(np.arange(60) < 30, 1, 1.4), 0.2))
    assert throttled.difference.verdict == "slower"
    assert throttled.steady / throttled.burst == pytest.approx(1.4, rel=0.02)
    assert steadiness(blocks(noise, 0.2)).difference.verdict == "no difference"


def test_a_short_run_has_no_steady_state():
    assert steadiness(blocks(np.ones(8), 0.1)) is None
    assert steadiness(blocks(np.ones(5), 10)) is None
    assert steadiness(blocks(np.ones(60), 0.2), cases=20) is None  # all of it lies in the first seconds of work


NAMES = ("then", "now", "slower")


@pytest.fixture(scope="module")
def files(exported, tmp_path_factory):
    """One file twice, and one that takes several times as long."""
    folder = tmp_path_factory.mktemp("twins")
    contents = [models.int8_tflite(), models.int8_tflite(), next(exported[0].glob("*float32.tflite")).read_bytes()]
    paths = [folder / name / "same.tflite" for name in NAMES]
    for path, data in zip(paths, contents, strict=True):
        path.parent.mkdir()
        path.write_bytes(data)
    return paths


def measure_in_turns(files):
    """Measure the files in turns; return a JSON value for each of `NAMES`."""
    amount = Amount(seconds=None, runs=160, warmup=5)
    result = benchmark(files, threads=[1], amount=amount, openings=0).to_dict()
    cases = [case | {"file": "same.tflite"} for case in result["cases"]]
    return {name: result | {"cases": [case]} for name, case in zip(NAMES, cases, strict=True)}


@pytest.fixture(scope="module")
def twins(files):
    return measure_in_turns(files)


def test_two_runs_of_one_file_do_not_differ(files):
    def compared():
        measured = measure_in_turns(files)
        return compare_benchmarks(measured["then"], measured["now"], "then").cases[0]

    def equal(case):
        return {case.phases[phase].verdict for phase in ("inference", "total")} == {"no difference"}

    assert not measured_until(compared, equal).remarks


def test_a_file_that_costs_more_is_slower_and_called_another_file(files):
    def compared():
        measured = measure_in_turns(files)
        order = (("then", "slower"), ("slower", "then"))
        return [compare_benchmarks(measured[a], measured[b], a).cases[0] for a, b in order]

    def told_apart(cases):
        return [case.phases["inference"].verdict for case in cases] == ["slower", "faster"]

    slower, _ = measured_until(compared, told_apart)
    assert slower.phases["inference"].measured.value > 1.5
    assert any(remark.startswith("another file: sha256") for remark in slower.remarks)


def test_what_belongs_together(twins):
    then, now = (json.loads(json.dumps(twins[name])) for name in ("then", "now"))
    two = json.loads(json.dumps(then["cases"][0])) | {"threads": 2}
    found = compare_benchmarks(then, now | {"cases": [*now["cases"], two]}, "then")
    assert [case.threads for case in found.cases] == [1]
    assert found.only_now == ("same.tflite (litert, 2 threads)",)
    # Tuned in between: nothing else could be meant, and it is said.
    found = compare_benchmarks(then, now | {"cases": [two]}, "then")
    assert found.cases[0].remarks == ("threads: 1 then, 2 now",)
    other = two | {"sha256": "0" * 64, "file": "other.tflite"}
    found = compare_benchmarks(then, now | {"cases": [other]}, "then")
    assert (found.cases, len(found.only_now), len(found.only_then)) == ((), 1, 1)


def test_another_image_leaves_inference_to_compare(twins):
    then = twins["then"] | {"picture": twins["then"]["picture"] | {"sha256": "0" * 64}}
    found = compare_benchmarks(then, twins["now"], "then")
    assert set(found.cases[0].phases) == {"inference"}
    assert any("image" in remark for remark in found.remarks)


def test_other_versions_are_said(twins):
    then = twins["then"] | {"software": twins["then"]["software"] | {"numpy": "1.0"}}
    remarks = compare_benchmarks(then, twins["now"], "then").remarks
    assert any(remark.startswith("numpy: 1.0 then") for remark in remarks)


def test_a_verdict_on_the_screen(twins, tmp_path):
    """The older file was measured before; now the same name is a file that takes a fraction of the time."""
    (tmp_path / "same.tflite").write_bytes(models.int8_tflite())
    (tmp_path / "old.json").write_text(json.dumps(twins["slower"]))
    options = ("--runs", 160, "--threads", 1, "--openings", 0, "--compare", tmp_path / "old.json")

    def screen():
        done = run("benchmark", tmp_path / "same.tflite", *options)
        assert done.exit_code == 0, done.stderr
        return done.stdout

    shown = measured_until(screen, lambda text: " faster" in text.partition("Compared with")[0])
    assert "another file: sha256" in shown.replace("\n", " ")
