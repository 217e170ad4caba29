"""The HTTP interface and the page by what the answers mean: real servers, a real browser."""

import json
import os

import numpy as np
import pytest
import runtime_models as models
from browser import complaints, look, wait_for
from served_model import photograph
from serving import serving

from mbn_deploy.runtime import Classifier

NAMES = ("flat", "house", "a rather long name of a thing that needs a second line", "tree", "road")
FILES = {
    "labels": {"head": "sigmoid", "meaning": "labels", "labels": NAMES},
    "binary": {"head": "logits", "outputs": 1, "meaning": "binary", "labels": ("cat", "dog")},
    "values": {"outputs": 2, "meaning": "values", "labels": ("age in years", "weight")},
    "embedding": {"outputs": 24, "meaning": "embedding"},
}
PICTURE = photograph(300, 200, "PNG")


@pytest.fixture(scope="module", params=FILES)
def served(request, tmp_path_factory):
    """Return (the meaning, a server, the classifier of its file)."""
    path = tmp_path_factory.mktemp(request.param) / "tiny.tflite"
    path.write_bytes(models.lone_file(**{"head": "logits", **FILES[request.param]}))
    with Classifier.open(path, threads=1) as classifier, serving(path, "--threads", 1) as server:
        yield request.param, server, classifier
        assert server.end() == 0
        assert server.process.stderr.read() == b""


def answer_of(classifier, meaning, data):
    """Return what the classifier answers, as the interface says it."""
    if meaning == "embedding":
        return {"embedding": pytest.approx(classifier.embed(data).tolist(), rel=1e-6)}
    if meaning == "values":
        return {"values": [{"index": v.index, "label": v.label, "value": v.value} for v in classifier.predict(data)]}
    found = classifier.classify(data)
    return {"predictions": [{"index": p.index, "label": p.label, "score": p.score} for p in found]}


def test_the_interface_answers_what_python_does(served):
    meaning, server, classifier = served
    answer = server.classify(PICTURE).json
    assert answer.pop("meaning") == meaning
    assert {key: answer[key] for key in answer if key not in ("image", "milliseconds")} == answer_of(
        classifier, meaning, PICTURE
    )
    assert server.get("/info").json["meaning"] == meaning


def test_every_answer_is_one_of_the_described_ones(served):
    jsonschema = pytest.importorskip("jsonschema")
    _meaning, server, _classifier = served
    described = server.get("/openapi.json").json
    schema = {"$ref": "#/components/schemas/Answer", "components": described["components"]}
    jsonschema.validate(server.classify(PICTURE).json, schema)


@pytest.mark.parametrize("served", ["labels"], indirect=True)
def test_a_threshold_leaves_names_out(served):
    _meaning, server, _classifier = served
    everything = server.classify(PICTURE, "?threshold=0").json["predictions"]
    assert len(everything) == len(NAMES)
    assert server.classify(PICTURE, "?threshold=1").json["predictions"] == []
    assert server.classify(PICTURE, "?threshold=2").status == 400
    assert server.classify(PICTURE, "?threshold=half").status == 400


@pytest.mark.browser
def test_the_page_shows_what_the_answers_are(served, browser, tmp_path):
    meaning, server, classifier = served
    browser.get(server.said["url"])
    wait_for(browser, lambda d: d.find_element("id", "choose").is_displayed())
    picture = tmp_path / "picture.png"
    picture.write_bytes(PICTURE)
    browser.find_element("id", "file").send_keys(str(picture))
    wait_for(browser, lambda d: d.find_element("id", "answer").is_displayed())
    rows = browser.find_elements("css selector", "#classes li")
    shown = [tuple(row.find_element("class name", part).text for part in ("name", "share")) for row in rows]
    if meaning == "embedding":
        vector = np.asarray(json.loads(browser.find_element("id", "vector").get_property("value")))
        np.testing.assert_allclose(vector, classifier.embed(PICTURE), rtol=1e-4)
        assert shown[0] == ("Features", "24")
    elif meaning == "values":
        assert [name for name, _ in shown] == list(FILES["values"]["labels"])
        numbers = [value.value for value in classifier.predict(PICTURE)]
        np.testing.assert_allclose([float(text) for _, text in shown], numbers, rtol=1e-3)
    else:
        expected = [(p.label, f"{p.score * 100 + 1e-9:.1f}%") for p in classifier.classify(PICTURE)]
        assert shown == expected
    for width in (1000, 390):
        look(browser, width=width, height=900, dark=width == 390)
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        if "MBN_SCREENSHOTS" in os.environ:
            browser.save_screenshot(f"{os.environ['MBN_SCREENSHOTS']}/{meaning}_{width}.png")
    assert complaints(browser) == []
