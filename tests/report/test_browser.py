"""The page of a bundle in a real browser: no complaints, nothing fetched, readable by everybody and on every medium."""

import base64
import io
import json
from importlib import resources

import pytest
from browser import CONTRAST, LEAST_CONTRAST, complaints, look
from colour_models import LABELS, colour_model, write_colours
from hostile_report import HOSTILE, hostile
from PIL import Image

from mbn_deploy.pipeline.export import export_model
from mbn_deploy.report.page import page as html_of

pytestmark = pytest.mark.browser
PHONE = {"width": 360, "height": 740, "scale": 2}


@pytest.fixture(scope="module")
def bundle(exported):
    """The bundle of the digits, evaluated, with the page that its export wrote."""
    return exported[0]


@pytest.fixture
def page(browser, bundle):
    browser.get((bundle / "report.html").as_uri())
    yield browser
    assert complaints(browser) == []


def opened(driver):
    """With everything that can be unfolded."""
    driver.execute_script("for (const d of document.querySelectorAll('details')) d.open = true")


def test_it_asks_for_nothing(page):
    names = page.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert [name for name in names if not name.startswith("data:")] == []
    loaded = page.execute_script("return [...document.images].map((i) => i.complete && i.naturalWidth > 0)")
    assert loaded
    assert all(loaded)


def test_its_policy_lets_nothing_in(page):
    """A script that somebody smuggled in would not run, nor would a picture from elsewhere be fetched."""
    page.execute_script(
        "window.ran = false;"
        "document.addEventListener('securitypolicyviolation', (e) => window.refused = e.blockedURI);"
        "const s = document.createElement('script'); s.textContent = 'window.ran = true'; document.body.append(s)"
    )
    assert page.execute_script("return [window.ran, window.refused]") == [False, "inline"]
    page.execute_script('document.body.innerHTML += \'<img src="http://192.0.2.1/x.png" alt="">\'')
    assert len(complaints(page)) == 2


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_contrast(page, dark):
    look(page, dark=dark)
    opened(page)
    found = page.execute_script(CONTRAST)
    assert len(found) > 100
    assert [entry for entry in found if entry[1] < LEAST_CONTRAST] == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_words_in_plots_are_seen(page, dark):
    """SVG text has a fill, which the check of contrast does not look at."""
    look(page, dark=dark)
    fills = page.execute_script(
        "const texts = [...document.querySelectorAll('svg text')];"
        "for (const t of texts) t.style.color = getComputedStyle(t).fill;" + CONTRAST
    )
    found = [entry for entry in fills if entry[0].startswith("text")]
    assert len(found) > 10
    assert [entry for entry in found if entry[1] < LEAST_CONTRAST] == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_on_a_phone(page, dark):
    look(page, dark=dark, **PHONE)
    opened(page)
    assert page.execute_script("return document.documentElement.scrollWidth - innerWidth") <= 0
    wide = page.execute_script(
        "return [...document.querySelectorAll('body *')].filter((n) => !n.closest('.wide, svg')"
        " && n.getBoundingClientRect().right > innerWidth + 1).map((n) => n.outerHTML.slice(0, 80))"
    )
    assert wide == []
    small = page.execute_script(
        "return Math.min(...[...document.querySelectorAll('body *')].filter((n) => n.textContent.trim()"
        " && !n.closest('svg')).map((n) => parseFloat(getComputedStyle(n).fontSize)))"
    )
    assert small >= 11
    picture = Image.open(io.BytesIO(base64.b64decode(page.get_screenshot_as_base64())))
    assert (picture.convert("L").getpixel((2, 2)) < 64) == dark


def test_wide_tables_are_scrolled_by_keyboard(page):
    look(page, **PHONE)
    region = page.find_element("css selector", "[role=region]")
    page.execute_script("arguments[0].focus()", region)
    region.send_keys("\ue014" * 3)  # the right arrow
    page.execute_async_script("const done = arguments[0]; requestAnimationFrame(() => setTimeout(done, 500))")
    assert page.execute_script("return arguments[0].scrollLeft", region) > 0


def test_what_a_screen_reader_is_told(page):
    tree = page.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    named = {(n["role"]["value"], n.get("name", {}).get("value", "")) for n in tree if "role" in n and not n["ignored"]}
    roles = {role for role, _ in named}
    assert {"main", "banner", "contentinfo", "heading", "table", "columnheader", "rowheader"} <= roles
    for name in ("What was exported", "Files", "Top-1 against latency", "Example images", "Run it", "Layer by layer"):
        assert ("region", name) in named
        assert ("heading", name) in named
    assert ("region", "Size, accuracy and latency of every file") in named
    pictures = {name for role, name in named if role in ("image", "img")}
    assert {"Top-1 against latency", "Signal to noise by layer"} <= pictures
    assert any(name.startswith("Image ") for name in pictures)


def test_axe_finds_nothing_wrong(page):
    pytest.importorskip("axe_core_python", reason="axe checks accessibility: pip install axe-core-python")
    source = resources.files("axe_core_python").joinpath("axe.min.js").read_text("utf-8")
    for dark in (False, True):
        look(page, dark=dark)
        opened(page)
        page.execute_script(source)
        found = page.execute_async_script("axe.run().then(arguments[0])")
        assert [(v["id"], [n["html"][:120] for n in v["nodes"]]) for v in found["violations"]] == []
        assert len(found["passes"]) > 15


def test_printed(page):
    """On paper it is light, and what was folded is there, too."""
    look(page, dark=True)
    printed = page.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True})
    pdf = base64.b64decode(printed["data"])
    assert pdf.startswith(b"%PDF-")
    pages = pdf.count(b"/Type /Page\n") or pdf.count(b"/Type /Page ")
    assert 3 <= pages <= 20
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        state = page.execute_script(
            "const rows = document.querySelector('#layers-int8').closest('table').rows;"
            "const last = rows[rows.length - 1].getBoundingClientRect();"
            "return [getComputedStyle(document.body).backgroundColor, last.height]"
        )
    finally:
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert state[0] == "rgb(255, 255, 255)"
    assert state[1] > 5


def test_names_of_strangers_stay_text(browser, bundle, tmp_path):
    from mbn_deploy.bundle.open import Bundle

    (tmp_path / "report.html").write_text(html_of(hostile(Bundle.read(bundle))), "utf-8")
    browser.get((tmp_path / "report.html").as_uri())
    assert browser.find_element("tag name", "h1").text == HOSTILE[0]
    assert not browser.find_elements("css selector", "script, img:not([src^='data:'])")
    names = {node.text for node in browser.find_elements("css selector", ".examples h3")}
    assert {HOSTILE[0], HOSTILE[1], HOSTILE[2]} <= names
    look(browser, **PHONE)
    assert browser.execute_script("return document.documentElement.scrollWidth - innerWidth") <= 0
    assert complaints(browser) == []


def test_the_figures_are_the_manifests(page, bundle):
    metrics = json.loads((bundle / "manifest.json").read_text())["metrics"]["files"]
    rows = page.find_elements("css selector", "#files-table")[0].find_elements("xpath", "../tbody/tr")
    shown = {row.find_element("tag name", "code").text: row for row in rows[1:]}
    assert set(shown) == set(metrics)
    for name, row in shown.items():
        figures = [cell.text for cell in row.find_elements("css selector", ".figure")]
        expected = [100 * metrics[name][key]["value"] for key in ("top1", "top5", "top1_difference", "agreement")]
        assert [float(f.replace("−", "-")) for f in figures[:4]] == pytest.approx(expected, abs=0.051)


@pytest.mark.parametrize("meaning", ["labels", "binary", "values", "embedding"])
def test_pages_of_every_meaning_are_readable(browser, tmp_path, meaning):
    root = tmp_path / meaning
    export_model(
        colour_model(meaning), root / "dist", labels=LABELS[meaning], scores=meaning, resize="squash",
        calibrate=write_colours(root / "calibration", "embedding", seed=9),
        evaluate=write_colours(root / "data", meaning), max_drop=20.0, formats=["tflite"],
        precisions=["float32", "int8"],
    )  # fmt: skip
    browser.get((root / "dist" / "report.html").as_uri())
    assert browser.find_element("id", "parts-table")
    for dark in (False, True):
        look(browser, dark=dark, **PHONE)
        opened(browser)
        assert browser.execute_script("return document.documentElement.scrollWidth - innerWidth") <= 0
        assert [entry for entry in browser.execute_script(CONTRAST) if entry[1] < LEAST_CONTRAST] == []
    assert complaints(browser) == []
