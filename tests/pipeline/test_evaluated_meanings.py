"""Answers of every meaning from end to end: exported, judged by the guard, evaluated again, and on the page."""

import json

import pytest
from cli_run import run
from colour_models import LABELS, colour_model, write_colours

from mbn_deploy.bundle.open import Bundle
from mbn_deploy.errors import VerificationError
from mbn_deploy.pipeline.export import export_model

MAIN = {
    "classes": ("top1", "agreement"),
    "labels": ("mean_average_precision", "agreement"),
    "binary": ("accuracy", "agreement"),
    "values": ("mean_absolute_error", "mean_distance"),
    "embedding": ("neighbour_accuracy", "cosine"),
}


@pytest.fixture(scope="module", params=list(MAIN))
def made(request, tmp_path_factory):
    """The meaning, what it was evaluated on, and the bundle of an export that its guard let pass."""
    meaning, root = request.param, tmp_path_factory.mktemp(request.param)
    data = write_colours(root / "data", meaning)
    result = export_model(
        colour_model(meaning), root / "dist", labels=LABELS[meaning], scores=meaning, resize="squash",
        calibrate=write_colours(root / "calibration", "embedding", seed=9), evaluate=data, max_drop=20.0,
        precisions=["float32", "int8"],
    )  # fmt: skip
    return meaning, data, result


def test_the_manifest_has_the_figures_of_the_meaning(made):
    meaning, _, result = made
    metrics, main = result.bundle.metrics, MAIN[meaning][0]
    assert (metrics["measure"], metrics["labelled"], metrics["images"]) == (main, True, 40)
    keras = metrics["reference"][main]["value"]
    if meaning == "values":
        assert keras < 0.05
    else:
        assert keras > 0.8
    for name, figures in metrics["files"].items():
        assert figures[main]["value"] == pytest.approx(keras, abs=0.15)
        assert f"{main}_difference" in figures
        if "float32" in name and "agreement" in figures:
            assert figures["agreement"]["value"] == 1.0
    assert ("top5" in metrics["reference"]) is False
    for part in metrics["reference"].get("parts", ()):
        assert part["name"] in (LABELS[meaning] or ("red", "green", "blue"))


def test_the_guard_judged_it(made):
    meaning, _, result = made
    (search,) = result.searches
    verdict = search.results[0].verdict
    assert verdict.meaning == meaning
    assert verdict.holds
    assert verdict.drop.value == pytest.approx(0, abs=0.2)
    assert json.loads(json.dumps(result.bundle.manifest.quantization["rungs"]))[0]["holds"]


def test_evaluate_gives_the_same_figures_again(made):
    meaning, data, result = made
    folder = result.bundle.folder
    said = run("evaluate", folder, "--data", data, "--json")
    assert said.exit_code == 0, said.stderr
    found = json.loads(said.stdout)
    assert found["meaning"] == meaning
    main = MAIN[meaning][0]
    for name, figures in result.bundle.metrics["files"].items():
        assert found["accuracy"][name][main]["value"] == pytest.approx(figures[main]["value"], abs=0.01)
    shown = run("evaluate", folder, "--data", data)
    assert shown.exit_code == 0
    assert max(map(len, shown.stdout.splitlines())) <= 80


def test_the_page_shows_them(made):
    _, _, result = made
    page = (result.bundle.folder / "report.html").read_text("utf-8")
    for entry in result.bundle.files:
        assert entry.path.replace("_", "_<wbr>") in page
    assert "nan" not in page.lower().replace("dominan", "")
    assert "None" not in page


def test_unlabelled_images_are_compared_with_keras(made, tmp_path):
    meaning, data, result = made
    loose = tmp_path / "loose"
    loose.mkdir()
    for path in sorted((data if data.is_dir() else data.parent).rglob("*.png")):
        (loose / path.name).write_bytes(path.read_bytes())
    found = export_model(
        colour_model(meaning), tmp_path / "dist", labels=LABELS[meaning], scores=meaning, resize="squash",
        calibrate=loose, evaluate=loose, precisions=["float32"], formats=["tflite"],
    )  # fmt: skip
    metrics = found.bundle.metrics
    assert (metrics["labelled"], metrics["measure"]) == (False, MAIN[meaning][1])
    (figures,) = metrics["files"].values()
    value = figures[metrics["measure"]]
    assert (value["value"] if isinstance(value, dict) else value) == pytest.approx(
        0 if meaning == "values" else 1, abs=1e-3
    )
    said = run("evaluate", result.bundle.folder, "--data", loose, "--json")
    assert said.exit_code == 0, said.stderr
    assert json.loads(said.stdout)["accuracy"] == {}


def test_a_sweep_ranks_files_by_the_figure_of_their_meaning(made, tmp_path):
    from mbn_deploy.pipeline.options import ExportOptions
    from mbn_deploy.sweep import plan
    from mbn_deploy.sweep.run import sweep

    meaning, data, result = made
    file = tmp_path / f"colour_{meaning}.keras"
    colour_model(meaning).save(file)
    options = ExportOptions(
        labels=LABELS[meaning], scores=meaning, resize="squash", evaluate=data, precisions="float32", formats="tflite"
    )
    found = sweep(plan.files([file]), tmp_path / "out", options, chunk=32, latency=0)
    assert found.failures == ()
    (row,) = found.rows
    assert row.score == MAIN[meaning][0]
    alone = result.bundle.metrics["files"]
    float32 = next(figures for name, figures in alone.items() if name.endswith("float32.tflite"))
    assert row.value == pytest.approx(float32[row.score]["value"])
    assert row.size_front
    metrics = Bundle.read(tmp_path / "out" / row.variant).metrics
    assert metrics["reference"] == result.bundle.metrics["reference"]


def test_the_guard_of_a_binary_model_refuses_a_file_that_decides_otherwise(tmp_path):
    model = colour_model("binary")
    kernel, bias = model.get_layer("head").get_weights()
    # A huge pair of weights that cancel in float, and leave int8 no levels for the rest.
    kernel[1], kernel[4] = 40000.0, -20000.0
    model.get_layer("head").set_weights([kernel, bias])
    with pytest.raises(VerificationError) as caught:
        export_model(
            model, tmp_path / "dist", labels=LABELS["binary"], resize="squash", recipe="int8",
            calibrate=write_colours(tmp_path / "calibration", "embedding", seed=9),
            evaluate=write_colours(tmp_path / "data", "binary"), max_drop=1.0, precisions=["int8"], formats=["tflite"],
        )  # fmt: skip
    assert "accuracy" in str(caught.value)
