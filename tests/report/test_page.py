"""The page of a bundle: it says what the manifest says, nothing in it is taken for HTML, and it asks for nothing."""

import base64
import io
import json
import re
import sys
import warnings
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest
from cli_run import NETWORK, run
from export_models import CLASSES, small_model
from hostile_report import HOSTILE, hostile
from PIL import Image

from mbn_deploy.answers import Answers
from mbn_deploy.bundle.open import Bundle
from mbn_deploy.errors import MissingExtraError
from mbn_deploy.pipeline.export import export_model
from mbn_deploy.report.axes import Axis, linear_ticks, padded
from mbn_deploy.report.examples import choose, preferred, thumbnail
from mbn_deploy.report.figures import number, signed, significant, three_digits
from mbn_deploy.report.page import page
from mbn_deploy.report.plots import Mark, accuracy_plot
from mbn_deploy.report.svg import Svg, element, joined
from mbn_deploy.report.template import render
from mbn_deploy.text import visible
from mbn_deploy.verify.latency import Latency, latencies
from mbn_deploy.verify.measures.choose import measure_for
from mbn_deploy.verify.statistics import Estimate

VOID = {"meta", "img", "br", "wbr", "link"}


class Tree(HTMLParser):
    """Elements with attributes and text, and whether every one of them is closed in its turn."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.elements, self.texts = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        assert len(dict(attrs)) == len(attrs), f"an attribute twice in {tag}"
        self.elements.append((tag, dict(attrs)))
        self.texts.append("" if tag == "wbr" else " ")  # a place where a name may break
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        self.texts.append(" ")

    def handle_data(self, data):
        if not {"style", "script"} & set(self.open):
            self.texts.append(data)

    @property
    def text(self):
        return " ".join("".join(self.texts).split())

    def all(self, name):
        return [attributes for tag, attributes in self.elements if tag == name]


@pytest.fixture(scope="module")
def tree(made):
    return Tree((made.folder / "report.html").read_text("utf-8"))


def test_it_is_well_formed_html(made):
    html5lib = pytest.importorskip("html5lib", reason="html5lib reads HTML as browsers do: pip install html5lib")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        parser = html5lib.HTMLParser()
        parser.parse((made.folder / "report.html").read_bytes(), transport_encoding="utf-8")
    assert parser.errors == []


def test_it_says_what_the_manifest_says(made, tree):
    for entry in made.files:
        assert entry.path in tree.text
        measured = made.metrics["files"][entry.path]
        for key in ("top1", "agreement"):
            figures = [number(100 * measured[key][end], 1) for end in ("value", "low", "high")]
            assert f"{figures[0]} {figures[1]} to {figures[2]}" in tree.text
        drop = measured["top1_difference"]
        figures = [signed(100 * drop[end], 1) for end in ("value", "low", "high")]
        assert f"{figures[0]} {figures[1]} to {figures[2]}" in tree.text
    manifest = made.manifest
    assert f"{manifest.source['parameters']:,} parameters" in tree.text
    assert manifest.source["weights_sha256"][:12] in tree.text
    assert f"{manifest.classes} classes (softmax)" in tree.text
    assert f"calibrated on {manifest.quantization['calibration']['images']} images" in tree.text
    assert "15 labelled images of 'validation'" in tree.text


def test_the_recipes_that_the_guard_tried_are_there_with_their_latencies(result, tree):
    assert "Recipes tried" in tree.text
    for tried in result.searches[0].results:
        assert tried.recipe in tree.text
        assert three_digits(tried.latency_ms) in tree.text
    assert "99 percentage points" in tree.text


def test_every_layer_has_its_error_and_its_ranges(made, tree):
    names = [op for op in ("Conv1", "expanded_conv_depthwise", "block_16_project", "Conv_1") if op in tree.text]
    assert len(names) == 4
    assert "All 53 layers" in tree.text or re.search(r"All \d\d layers", tree.text)


def test_lines_to_copy_name_the_bundle(tree):
    assert "mbn-deploy bundle pi 'my dist' -o 'my dist-pi'" in tree.text
    assert "mbn-deploy bundle android 'my dist' -o 'my dist-android'" in tree.text
    assert "tar -xzf 'my dist-pi.tar.gz'" in tree.text


def test_nothing_is_fetched_and_nothing_runs(made, tree):
    text = (made.folder / "report.html").read_text("utf-8")
    assert not tree.all("script")
    assert not tree.all("link")
    assert not tree.all("a")
    words = re.sub(r'"data:image/jpeg;base64,[A-Za-z0-9+/=]+"', "", text)
    assert not re.search(r"https?:|//|url\(|@import", words)
    for _, attributes in tree.elements:
        assert not {"href", "style", "srcset", "action"} & set(attributes)
        assert not [name for name in attributes if name.startswith("on")]
        assert attributes.get("src", "data:image/jpeg;base64,").startswith("data:image/jpeg;base64,")
    policy = next(a["content"] for a in tree.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")


def test_headings_are_in_order_and_landmarks_have_names(tree):
    levels = [int(name[1]) for name, _ in tree.elements if re.fullmatch("h[1-6]", name)]
    assert levels.count(1) == 1
    assert all(later <= before + 1 for before, later in pairwise(levels))
    identities = [a["id"] for _, a in tree.elements if "id" in a]
    assert len(set(identities)) == len(identities)
    named = [a[key] for _, a in tree.elements for key in ("aria-labelledby", "aria-describedby") if key in a]
    assert set(named) <= set(identities)
    assert len(tree.all("section")) == len([a for a in tree.all("section") if a["aria-labelledby"] in identities])
    assert [name for name, _ in tree.elements if name in ("header", "main", "footer")] == ["header", "main", "footer"]
    assert len(tree.all("caption")) == len(tree.all("table")) >= 3
    assert all(a["scope"] in ("col", "row") for a in tree.all("th"))
    assert all(a["alt"] for a in tree.all("img"))


def test_pictures_are_those_that_the_models_saw(tree):
    pictures = [Image.open(io.BytesIO(base64.b64decode(a["src"].partition(",")[2]))) for a in tree.all("img")]
    assert 4 <= len(pictures) <= 16
    assert {picture.size for picture in pictures} == {(32, 32)}
    assert [(int(a["width"]), int(a["height"])) for a in tree.all("img")] == [p.size for p in pictures]


def test_without_pictures_the_words_stay(images, tmp_path):
    bundle = export_model(
        small_model(), tmp_path / "dist", **images, precisions=["float32", "int8"], formats=["tflite"],
        report_images=False,
    ).bundle  # fmt: skip
    text = (bundle.folder / "report.html").read_text("utf-8")
    assert "<img" not in text
    assert "data:image" not in text
    assert "give the same answer on" in text


def test_without_evaluation_calibration_pictures_are_compared(images, tmp_path):
    bundle = export_model(
        small_model(), tmp_path / "dist", calibrate=images["calibrate"], precisions=["float32", "int8"]
    ).bundle
    tree = Tree((bundle.folder / "report.html").read_text("utf-8"))
    assert re.search(r"same answer on \d+ of 12 calibration images", tree.text)
    assert "labelled" not in tree.text
    assert "Accuracy was not measured" in tree.text
    assert 4 <= len(tree.all("img")) <= 12


def test_without_a_report(images, tmp_path):
    bundle = export_model(
        small_model(), tmp_path / "dist", calibrate=images["calibrate"], precisions=["float32"], report=False
    ).bundle
    assert not (bundle.folder / "report.html").exists()


def test_the_command_writes_it_unless_told_not_to(digits, tmp_path):
    args = ["export", *NETWORK, "--formats", "tflite", "--precisions", "float32", "--evaluate", digits / "held-back"]
    for option, files, pictures in (("--no-report", 0, 0), ("--no-report-images", 1, 0), ("--report-images", 1, 4)):
        result = run(*args, "-o", tmp_path / option, option)
        assert result.exit_code == 0, result.stderr
        found = list((tmp_path / option).glob("report.html"))
        assert len(found) == files
        assert ("report.html" in result.stdout) == bool(files)
        assert sum(len(Tree(path.read_text("utf-8")).all("img")) for path in found) >= pictures
        assert pictures or not any("<img" in path.read_text("utf-8") for path in found)


def test_a_bundle_without_pictures_and_without_int8(tmp_path):
    bundle = export_model(small_model(), tmp_path / "dist", precisions=["float32"], formats=["tflite"]).bundle
    tree = Tree((bundle.folder / "report.html").read_text("utf-8"))
    assert "Accuracy was not measured" in tree.text
    assert "Layer by layer" not in tree.text
    assert "Example images" not in tree.text
    assert "float32 TFLite" in tree.text


def test_the_manifest_does_not_name_it(made):
    """Its times differ from export to export; the rest stays the same (tests/pipeline/test_export.py)."""
    assert (made.folder / "report.html").is_file()
    assert "report" not in (made.folder / "manifest.json").read_text()
    assert Bundle.read(made.folder).files


def test_what_a_stranger_names_is_text_and_no_more(result):
    report = hostile(result.bundle, result.searches[0].results)
    text = page(report)
    tree = Tree(text)
    assert not tree.all("script")
    assert {a["src"][:5] for a in tree.all("img")} == {"data:"}
    assert not [a for _, a in tree.elements if any(key.startswith("on") for key in a)]
    for name in HOSTILE[:3]:
        assert name in tree.text
    assert "\\u202egnikool" in tree.text
    assert "a\\nb\\x1b[31m" in tree.text
    assert "\u202e" not in text
    assert "\x1b" not in text


# ---- its parts


def test_html_is_escaped_once():
    assert element("p", "a < b", element("b", "&"), title='"') == '<p title="&quot;">a &lt; b<b>&amp;</b></p>'
    assert joined([None, "<", Svg("<br>")]) == "&lt;<br>"
    assert visible("a\u200bb\ud800") == "a\\u200bb\\ud800"


def test_a_template_prints_no_name_as_it_is(tmp_path):
    (tmp_path / "names.html").write_text(
        "<p title='{{ name }}'>{{ name }}</p>{% set text %}{{ name }}{% endset %}{{ text }}"
    )
    shown = render("names.html", tmp_path, name="<b>'\u202e")
    assert shown.count("&lt;b&gt;&#39;\\u202e") == 3
    assert render("names.html", tmp_path, name=Svg("<b>")).count("<b>") == 3


def test_without_jinja2_the_extra_that_brings_it_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingExtraError, match=r"jinja2.*mbn-deploy\[export\]"):
        render("report.html", tmp_path)


def test_axes_have_round_numbers_that_lie_on_them():
    assert linear_ticks(0.0, 1.0) == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert linear_ticks(97.3, 100.0) == [97.5, 98.0, 98.5, 99.0, 99.5, 100.0]
    assert Axis(1.0, 60.0, 0, 100, log=True).ticks() == [1, 2, 5, 10, 20, 50]
    assert Axis(1.0, 100.0, 0, 100, log=True)(10.0) == 50.0
    assert Axis(0.0, 10.0, 100, 0)(20.0) == 0.0
    low, high = padded([5.0, 5.0], least=2.0)
    assert (low, high) == (4.0, 6.0)


def test_names_in_the_plot_do_not_cover_each_other():
    """Eleven files at nearly one place."""
    marks = [
        Mark(f"file {n} TFLite", "tflite", Latency(2 + n / 50, 2.9), Estimate(0.7 + n / 1000, 0.66, 0.75))
        for n in range(11)
    ]
    plot = str(accuracy_plot(marks, 70.0, "Top-1", "words"))
    found = re.findall(r'<text x="([\d.]+)" y="([\d.]+)">file \d+ TFLite</text>', plot)
    places = [(float(x), float(y)) for x, y in found]
    assert len(places) == 11
    for i, (x, y) in enumerate(places):
        for other_x, other_y in places[i + 1 :]:
            assert abs(y - other_y) >= 12 or abs(x - other_x) >= 60


def test_numbers_are_written_as_people_read_them():
    assert (number(-0.25, 1), signed(0.004, 1), signed(-1.26, 1), significant(0.04462)) == (
        "−0.2",
        "0.0",
        "−1.3",
        "0.0446",
    )


def test_disagreements_come_first_and_the_surest_of_them():
    measure = measure_for(Answers(), ("cat", "dog"), 4)
    keras = measure.columns(np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.3, 0.7]], np.float32), None, 0)
    int8 = measure.columns(np.array([[0.9, 0.1], [0.7, 0.3], [0.4, 0.6], [0.8, 0.2]], np.float32), None, 0)
    # Float is right on 2 alone; it is surer of 1 than of 3; both agree on 0.
    assert choose(measure, keras, int8, np.zeros(4, int)) == [2, 1, 3, 0]
    assert choose(measure, keras, int8, None) == [1, 3, 2, 0]


def test_the_file_beside_float_is_the_one_that_differs_most():
    assert preferred({"a": "float32", "b": "dynamic", "c": "int8"}) == "c"
    assert preferred({"a": "float32", "b": "float16"}) == "b"
    assert preferred({}) is None


def test_latencies_are_those_of_real_runs(made):
    found = latencies({f.path: (made.path(f).read_bytes(), f.format) for f in made.files})
    assert list(found) == [f.path for f in made.files]
    assert all(0 < each.low <= each.high for each in found.values())


def test_thumbnails_keep_their_shape_and_are_small():
    data, size = thumbnail(np.zeros((300, 600, 3), np.uint8))
    assert size == (144, 72)
    assert Image.open(io.BytesIO(data)).size == size
    grey, _ = thumbnail(np.zeros((8, 8, 1), np.uint8))
    assert Image.open(io.BytesIO(grey)).mode == "L"


def test_the_manifest_is_free_of_times(made):
    assert "ms" not in re.findall(r'"([a-z_]+)":', json.dumps(json.loads((made.folder / "manifest.json").read_text())))
    assert made.manifest.classes == CLASSES
