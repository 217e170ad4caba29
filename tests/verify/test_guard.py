"""The accuracy guard: judged by paired images, recipes in order, and never silently a worse model."""

import json
from dataclasses import replace
from functools import partial
from importlib import resources
from types import SimpleNamespace

import numpy as np
import pytest
from cli_run import run
from typer.testing import CliRunner

from mbn_deploy.answers import Answers
from mbn_deploy.cli.main import app
from mbn_deploy.demo.digits import CLASSES
from mbn_deploy.demo.networks import weights_name
from mbn_deploy.demo.run import demo_model, write_pictures
from mbn_deploy.errors import UsageError, VerificationError
from mbn_deploy.export.from_keras.convert import graph_from_keras
from mbn_deploy.graph.fold import fold
from mbn_deploy.manifest import Preprocess
from mbn_deploy.pipeline import recipe_search
from mbn_deploy.pipeline.export import export_model
from mbn_deploy.pipeline.options import ExportOptions
from mbn_deploy.pipeline.recipe_search import SearchResult, int8_recipes
from mbn_deploy.pipeline.steps import StepTimer
from mbn_deploy.progress import silent
from mbn_deploy.quantize.recipe import LADDER
from mbn_deploy.verify.evaluate import Evaluation
from mbn_deploy.verify.guard import RecipeResult, judge, recipe_record, sentence
from mbn_deploy.verify.measures.choose import measure_for
from mbn_deploy.verify.measures.measure import Accuracy, Comparison
from mbn_deploy.verify.statistics import Estimate, negative, paired_difference, proportion

LABELS, FILES = tuple(map(str, range(10))), ["m_int8.tflite"]


def evaluation(n, lost, gained, labelled=True):
    """`n` images of which float has 80 % right; int8 loses `lost` of them and gains `gained` others."""
    theirs = np.arange(n) < 0.8 * n
    ours = theirs.copy()
    ours[:lost], ours[n - gained :] = False, True if gained else ours[n - gained :]
    difference = paired_difference(ours, theirs)
    same = proportion(n - lost - gained, n)
    compared = Comparison(
        reference="keras",
        difference=difference if labelled else None,
        agreement=same,
        loss=negative(difference) if labelled else Estimate(1 - same.value, 1 - same.high, 1 - same.low),
        more={"kl": 0.01, "confidence_drift": -0.002},
    )
    accuracy = Accuracy(n, {"top1": proportion(int(ours.sum()), n), "top5": proportion(n, n)})
    measure = measure_for(Answers(), LABELS, n)
    compared, accuracy = {"m_int8.tflite": compared}, {"m_int8.tflite": accuracy} if labelled else {}
    return Evaluation("photos", n, accuracy, compared, measure)


@pytest.mark.parametrize(
    ("n", "lost", "gained", "holds", "decided"),
    [(5000, 10, 10, True, True), (5000, 500, 10, False, True), (300, 6, 4, True, False), (300, 8, 2, False, False)],
)
def test_a_drop_is_judged_with_its_interval(n, lost, gained, holds, decided):
    found = judge(evaluation(n, lost, gained), FILES, max_drop=1.0)
    assert (found.holds, found.decided) == (holds, decided)
    assert found.drop.value == pytest.approx((lost - gained) / n)
    assert found.drop.low <= found.drop.value <= found.drop.high
    assert (f"{n} images are too few" in sentence(found, 1.0)) == (not decided)
    assert (found.needed is None) or f"use about {found.needed}" in sentence(found, 1.0)


def test_a_gain_is_said_as_a_gain():
    said = sentence(judge(evaluation(5000, 10, 60), FILES, max_drop=1.0), 1.0)
    assert "gains 1.00 points of top-1 (95 %: +0.6" in said
    assert "loses 1.00 points of top-1 (95 %: +0.6" in sentence(judge(evaluation(5000, 60, 10), FILES, 1.0), 1.0)


def test_as_many_images_as_it_says_would_decide():
    found = judge(evaluation(300, 6, 4), FILES, max_drop=1.0)
    scale = -(-found.needed // 300)
    assert judge(evaluation(300 * scale, 6 * scale, 4 * scale), FILES, max_drop=1.0).decided
    fewer = max(scale // 3, 1)
    assert not judge(evaluation(300 * fewer, 6 * fewer, 4 * fewer), FILES, max_drop=1.0).decided


def test_without_labels_other_answers_bound_the_drop():
    found = judge(evaluation(5000, 5, 5, labelled=False), FILES, max_drop=1.0)
    assert found.drop is None
    assert found.holds
    assert "at most 0.20 points lower" in sentence(found, 1.0)
    assert not judge(evaluation(5000, 100, 5, labelled=False), FILES, max_drop=1.0).holds


def test_the_worst_file_decides():
    both = evaluation(5000, 10, 10)
    worse = evaluation(5000, 500, 0).comparison["m_int8.tflite"]
    made = replace(both, comparison=both.comparison | {"m_int8.onnx": worse})
    found = judge(made, ["m_int8.tflite", "m_int8.onnx"], max_drop=1.0)
    assert found.file == "m_int8.onnx"
    assert not found.holds


def recipe_result(name, holds):
    lost = 10 if holds else 500
    return RecipeResult(name, "int8", judge(evaluation(5000, lost, 10), FILES, 1.0), 1000, 1.5)


def test_the_first_recipe_that_keeps_the_accuracy_is_accepted(monkeypatch):
    tried = []

    def encode(recipe, *_):
        tried.append(recipe.name)
        return recipe

    monkeypatch.setattr(recipe_search, "encode_quantized", encode)
    options = ExportOptions(calibrate="photos", evaluate="held-back", max_drop=1.0)
    search = partial(
        recipe_search.search_recipe, "int8", SimpleNamespace(graph=graph_of("mobilenet_v3_small")), None, None, None,
        options=options, timer=StepTimer(silent),
    )  # fmt: skip
    monkeypatch.setattr(recipe_search, "measure_attempt", lambda made, *_: recipe_result(made.name, made == LADDER[1]))
    result = search()
    assert tried == [LADDER[0].name, LADDER[1].name]
    assert result.accepted == result.last_tried == LADDER[1]
    assert [r.holds for r in result.results] == [False, True]
    monkeypatch.setattr(recipe_search, "measure_attempt", lambda made, *_: recipe_result(made.name, holds=False))
    result = search()
    assert (result.accepted, result.last_tried) == (None, LADDER[-1])


def test_facts_have_no_latency():
    made = recipe_result("int8", holds=True)
    assert "latency" not in json.dumps(recipe_record(made))
    assert recipe_record(made) == recipe_record(replace(made, latency_ms=99.0))
    assert SearchResult("int8", None, None, (made,)).record()["rungs"][0]["holds"]


def graph_of(name):
    return fold(graph_from_keras(demo_model(name)).graph)


def test_recipes_that_make_no_difference_are_left_out():
    options = ExportOptions(calibrate="photos")
    assert int8_recipes(graph_of("mobilenet_v3_small"), options) == LADDER
    plain = int8_recipes(graph_of("mobilenet_v2"), options)
    assert [r.name for r in plain] == ["int8", "int8-mixed", "int8-mixed-3"]
    named = replace(options, recipe="int8-twin", granularity="per-tensor", float_layers="Conv1")
    (only,) = int8_recipes(graph_of("mobilenet_v2"), named)
    assert (only.granularity, only.float_layers) == ("per-tensor", ("Conv1",))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return write_pictures(tmp_path_factory.mktemp("pictures") / "demo")


def options(pictures):
    return {
        "calibrate": pictures.calibration, "calibration_count": 50, "evaluate": pictures.held_back, "labels": CLASSES,
    }  # fmt: skip


def test_what_was_tried_is_said_and_stays_in_the_bundle(pictures, tmp_path):
    weights = resources.files("mbn_deploy.demo") / weights_name("mobilenet_v2")
    (tmp_path / "labels.txt").write_text("\n".join(CLASSES))
    result = run(
        "export", "mobilenet_v2", "--alpha", 0.15, "--size", 32, "--classes", 10, "--weights", weights,
        "-o", tmp_path / "dist", "--labels", tmp_path / "labels.txt", "--resize", "squash",
        "--calibrate", pictures.calibration, "--calibration-count", 50, "--evaluate", pictures.held_back,
        "--max-drop", 2, "--formats", "tflite", "--precisions", "int8",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert "Recipes tried on these images: 1" in result.stdout
    (row,) = [line.split() for line in result.stdout.splitlines() if line.split()[:1] == ["int8"]]
    assert row[-1] == "holds"
    quantization = json.loads((tmp_path / "dist" / "manifest.json").read_text("utf-8"))["quantization"]
    (tried,) = quantization["rungs"]
    assert tried["holds"]
    assert quantization["recipe"]["name"] == "int8"
    assert float(row[1]) == pytest.approx(100 * tried["drop"]["value"], abs=0.005)


def test_images_without_labels_give_agreement(pictures, tmp_path):
    loose = tmp_path / "loose"
    loose.mkdir()
    for number, path in enumerate(sorted(pictures.held_back.rglob("*.png"))[:60]):
        (loose / f"{number}.png").write_bytes(path.read_bytes())
    result = export_model(
        demo_model("mobilenet_v2"), tmp_path / "dist", **options(pictures) | {"evaluate": loose}, max_drop=90.0,
        formats=["tflite"], precisions=["float32", "int8"],
        preprocess=Preprocess.parse("tf"), resize="squash",
    )  # fmt: skip
    assert not result.bundle.metrics["labelled"]
    assert "reference" not in result.bundle.metrics
    assert result.searches[0].results[0].verdict.drop is None


def spoiled():
    """The demo V2 with the channels of a linear tensor pulled apart: the same in float, lost with one scale for all."""
    model = demo_model("mobilenet_v2")
    norm, reader = model.get_layer("expanded_conv_project_BN"), model.get_layer("block_1_expand")
    gamma, beta, *statistics = norm.get_weights()
    factors = np.exp2(np.random.default_rng(0).uniform(-10, 10, gamma.shape))
    norm.set_weights([gamma * factors, beta * factors, *statistics])
    reader.set_weights([reader.get_weights()[0] / factors[:, None]])
    return model


BAD = {"recipe": "plain", "resize": "squash", "preprocess": Preprocess.parse("tf")}


def test_when_none_holds_there_is_no_int8_file(pictures, tmp_path):
    model = spoiled()
    with pytest.raises(VerificationError, match=r"lose most: \w+") as caught:
        export_model(
            model, tmp_path / "dist", **options(pictures), **BAD, max_drop=0.0,
            formats=["tflite"], precisions=["float32", "int8"],
        )  # fmt: skip
    assert caught.value.exit_code == 5
    assert sorted(p.name for p in (tmp_path / "dist").glob("*.tflite")) == ["mobilenet_v2_0.15_32_float32.tflite"]
    manifest = json.loads((tmp_path / "dist" / "manifest.json").read_text("utf-8"))
    assert [r["holds"] for r in manifest["quantization"]["rungs"]] == [False]
    with pytest.raises(VerificationError):
        export_model(
            model, tmp_path / "other", **options(pictures), **BAD, max_drop=0.0,
            formats=["tflite"], precisions=["int8"],
        )  # fmt: skip
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    "wrong", [{"max_drop": -1.0}, {"max_drop": 1.0, "evaluate": None}, {"recipe": "int9"}, {"granularity": "per-row"}]
)
def test_what_makes_no_sense_is_refused_first(pictures, tmp_path, wrong):
    with pytest.raises(UsageError):
        export_model("no-such.keras", tmp_path / "dist", **options(pictures) | wrong)


def test_the_command_ends_with_5(pictures, tmp_path):
    model = tmp_path / "digits.keras"
    spoiled().save(model)
    arguments = [
        "export", str(model), "-o", str(tmp_path / "dist"), "--resize", "squash", "--preprocess", "tf",
        "--calibrate", str(pictures.calibration), "--calibration-count", "50", "--evaluate", str(pictures.held_back),
        "--recipe", "plain", "--max-drop", "0",
        "--formats", "tflite", "--precisions", "float32,int8",
    ]  # fmt: skip
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 5, result.output
    assert "no int8 file keeps" in result.stderr
