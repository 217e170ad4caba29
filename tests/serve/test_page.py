"""The page in a real browser: what a person drops, chooses, pastes, reads, and what a stranger cannot do."""

import base64
import io
import json
import time

import numpy as np
import pytest
from browser import CONTRAST, LEAST_CONTRAST, complaints, drop, look, paste, wait_for
from PIL import Image
from served_model import LABELS, model, photograph, png  # noqa: F401 - a fixture
from serving import serving

from mbn_deploy.runtime import Classifier

pytestmark = pytest.mark.browser
LIMIT = 300_000


@pytest.fixture(scope="module")
def server(model):  # noqa: F811
    with serving(model[0], *model[1], "--max-upload", LIMIT / 1e6) as started:
        yield started
        assert started.end() == 0
        assert started.process.stderr.read() == b""


@pytest.fixture(scope="module")
def classifier(model):  # noqa: F811
    with Classifier.open(model[0], labels=model[1][1], threads=1) as opened:
        yield opened


@pytest.fixture
def page(browser, server):
    browser.get(server.said["url"])
    wait_for(browser, lambda d: d.find_element("id", "choose").is_displayed())
    yield browser
    assert complaints(browser) == []


def text(driver, name):
    return driver.find_element("id", name).text


def shown(driver):
    """Names and shares of the rows, once there is an answer."""
    wait_for(driver, lambda d: d.find_element("id", "answer").is_displayed())
    rows = driver.find_elements("css selector", "#classes li")
    return [tuple(row.find_element("class name", part).text for part in ("name", "share")) for row in rows]


def expected(classifier, data):
    found = classifier.classify(data)
    return [(" ".join(p.label.split()), f"{p.score * 100 + 1e-9:.1f}%") for p in found]


def file(tmp_path, data, name="picture.png"):
    path = tmp_path / name
    path.write_bytes(data)
    return path


def test_what_runs_is_said(page):
    assert page.title == "tiny"
    assert text(page, "model") == "tiny"
    assert text(page, "facts") == "int8 tflite, 5 classes, 12 × 16 pixels; litert, 1 thread"
    assert not page.find_element("id", "modes").is_displayed()  # there is no camera


def test_a_chosen_picture(page, classifier, tmp_path):
    data = photograph(300, 200, "PNG")
    page.find_element("id", "file").send_keys(str(file(tmp_path, data, "<i>my cat.png")))
    assert shown(page) == expected(classifier, data)
    assert text(page, "caption") == "<i>my cat.png, 300 × 200"
    assert text(page, "times").endswith("ms round trip")
    image = page.find_element("id", "shown")
    assert image.get_property("naturalWidth") == 300
    assert image.get_attribute("alt") == "The image <i>my cat.png"


def test_the_same_picture_again(page, classifier, tmp_path):
    path = file(tmp_path, png(1))
    for _ in range(2):
        page.find_element("id", "file").send_keys(str(path))
        assert shown(page) == expected(classifier, png(1))
        page.execute_script("document.getElementById('answer').hidden = true")


def test_a_dropped_picture(page, classifier, tmp_path):
    drop(page, file(tmp_path, png(2)), 500, 200)
    assert shown(page) == expected(classifier, png(2))
    assert "over" not in page.find_element("id", "drop").get_attribute("class")


def test_a_pasted_picture(page, classifier):
    paste(page, png(3), "image.png")
    assert shown(page) == expected(classifier, png(3))


def test_labels_are_text_and_no_more(page):
    paste(page, png(0), "image.png")
    names = {name for name, _ in shown(page)}
    assert {"<b>bold</b>", "<img src=x onerror=alert(1)>", "katze & hund"} <= names
    assert not page.find_elements("css selector", "#classes b, #classes img")


def test_bars_are_as_long_as_their_shares(page, classifier):
    paste(page, png(4), "image.png")
    shown(page)
    script = "return [...document.querySelectorAll('.bar')].map((b) => b.offsetWidth / b.parentElement.offsetWidth)"
    shares = page.execute_script(script)
    assert shares == pytest.approx([p.score for p in classifier.classify(png(4))], abs=0.01)


def test_the_last_picture_wins(page, classifier):
    for index in range(6):
        paste(page, png(index), f"{index}.png")
    wait_for(page, lambda d: "5.png, 12 × 16" in text(d, "caption"))
    assert shown(page) == expected(classifier, png(5))


@pytest.mark.parametrize(
    ("data", "said"),
    [(b"no picture", "an image in a format"), (b"", "no body"), (bytes(LIMIT + 1), "at most 0.3 MB")],
)
def test_what_is_wrong_is_said(browser, server, data, said):
    browser.get(server.said["url"])
    wait_for(browser, lambda d: d.find_element("id", "choose").is_displayed())
    paste(browser, data, "<b>x</b>.png")
    wait_for(browser, lambda d: said in text(d, "error"))
    assert not browser.find_element("id", "answer").is_displayed()
    paste(browser, png(), "good.png")
    shown(browser)
    assert text(browser, "error") == ""


def test_a_server_that_is_gone_is_said(browser, model):  # noqa: F811
    with serving(model[0], *model[1]) as started:
        browser.get(started.said["url"])
        wait_for(browser, lambda d: d.find_element("id", "choose").is_displayed())
        assert started.end() == 0
    paste(browser, png(), "good.png")
    wait_for(browser, lambda d: "does not respond" in text(d, "error"))


# ---- the token


@pytest.fixture(scope="module")
def closed(model):  # noqa: F811
    with serving(model[0], *model[1], "--host", "0.0.0.0") as started:  # noqa: S104 - what is tested
        yield started


def test_a_login_by_hand(browser, closed):
    browser.get(f"http://127.0.0.1:{closed.port}/")
    wait_for(browser, lambda d: d.find_element("id", "login").is_displayed())
    assert browser.switch_to.active_element.get_attribute("id") == "token"
    browser.switch_to.active_element.send_keys("wrong\n")
    wait_for(browser, lambda d: "not the server's token" in text(d, "login-error"))
    field = browser.find_element("id", "token")
    field.clear()
    field.send_keys(closed.said["token"] + "\n")
    wait_for(browser, lambda d: d.find_element("id", "choose").is_displayed())
    assert browser.execute_script("return document.cookie") == ""
    browser.refresh()  # the cookie stays
    wait_for(browser, lambda d: d.find_element("id", "choose").is_displayed())


def test_the_printed_address_is_enough(browser, closed):
    address = f"http://127.0.0.1:{closed.port}/"
    browser.get(f"{address}#token={closed.said['token']}")
    wait_for(browser, lambda d: d.find_element("id", "choose").is_displayed())
    assert browser.current_url == address
    paste(browser, png(), "a.png")
    assert len(shown(browser)) == 5


def test_another_sites_page_gets_nothing(browser, server, closed):
    """A page of `closed` (another origin on this machine) asks `server`: the answer is no, and stays unread."""
    browser.get(f"http://127.0.0.1:{closed.port}/docs")
    script = "return fetch(arguments[0], {method: 'POST', body: 'x', mode: 'no-cors'}).then((a) => a.type, () => 'no')"
    assert browser.execute_script(script, f"{server.said['url']}classify") in ("no", "opaque")
    # Its own policy forbids to ask elsewhere at all, so a page without any:
    browser.get("about:blank")
    assert browser.execute_script(script, f"{server.said['url']}classify") in ("no", "opaque")
    read = "return fetch(arguments[0]).then((a) => a.text(), () => 'no')"
    assert browser.execute_script(read, f"{server.said['url']}info") == "no"


# ---- the camera


@pytest.fixture(scope="module")
def watched(model, tmp_path_factory):  # noqa: F811
    folder = tmp_path_factory.mktemp("frames")
    for index in range(60):
        pixels = np.full((48, 64, 3), (4 * index, 255 - 4 * index, 128), np.uint8)
        Image.fromarray(pixels).save(folder / f"{index:03}.png")
    with serving(model[0], *model[1], "--camera", f"folder:{folder}", "--fps", 15) as started:
        yield started


def test_the_camera_is_watched_with_the_answer_of_each_frame(browser, watched, classifier):
    browser.get(watched.said["url"])
    state = (
        "const image = document.getElementById('shown'); if (!image.naturalWidth) return null;"
        "const canvas = document.createElement('canvas'); canvas.width = canvas.height = 1;"
        "canvas.getContext('2d').drawImage(image, 0, 0);"
        "return [[...canvas.getContext('2d').getImageData(0, 0, 1, 1).data],"
        " document.querySelector('#classes .share').textContent, document.getElementById('caption').textContent,"
        " image.complete]"
    )
    seen = {}
    deadline = time.monotonic() + 60
    again = browser.find_element("id", "again")
    while len(seen) < 5 and time.monotonic() < deadline:
        if again.is_displayed():  # a busy machine shows few frames before they end
            again.click()
        found = browser.execute_script(state)
        if found and found[3]:
            seen[found[2]] = found
    assert len(seen) == 5
    for caption in seen:
        assert caption.startswith("64 × 48, frame ")
    wait_for(browser, lambda d: "no more frames" in text(d, "status"), 60)
    # The last one stands still: picture and answer belong together.
    colour, share, caption, _ = browser.execute_script(state)
    index = int(caption.rpartition(" ")[2]) - 1
    assert colour[0] == pytest.approx(4 * index, abs=6)
    frame = np.full((48, 64, 3), (4 * index, 255 - 4 * index, 128), np.uint8)
    assert share == f"{classifier.classify(frame)[0].score * 100 + 1e-9:.1f}%"
    again.click()
    wait_for(browser, lambda d: text(d, "caption").startswith("64 × 48, frame ") and not text(d, "status"))
    browser.find_element("id", "mode-image").click()
    assert browser.find_element("id", "choose").is_displayed()
    assert browser.find_element("id", "mode-image").get_attribute("aria-pressed") == "true"
    paste(browser, png(7), "a.png")
    assert len(shown(browser)) == 5
    assert complaints(browser) == []


# ---- everybody can use it


def test_by_keyboard_alone(page):
    from selenium.webdriver import ActionChains, Keys

    ActionChains(page).send_keys(Keys.TAB).perform()
    assert page.switch_to.active_element.get_attribute("id") == "file"
    outline = page.execute_script("return getComputedStyle(document.getElementById('choose')).outlineStyle")
    assert outline == "solid"  # what has the focus is seen
    ActionChains(page).send_keys(Keys.TAB).perform()
    assert page.switch_to.active_element.text == "HTTP interface"


def test_what_a_screen_reader_is_told(page, classifier):
    def named(driver):
        tree = driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
        return {(node["role"]["value"], node.get("name", {}).get("value", "")) for node in tree if "role" in node}

    # The tree follows the page in its own time.
    wait_for(page, lambda d: ("heading", "tiny") in named(d))
    wait_for(page, lambda d: any("Choose an image" in name for role, name in named(d) if role == "button"))
    paste(page, png(2), "image.png")
    best = classifier.classify(png(2))[0]
    spoken = page.find_element("id", "spoken")
    expected_words = f"{best.label}, {best.score * 100 + 1e-9:.1f}%"
    wait_for(page, lambda _: spoken.get_attribute("textContent") == expected_words)
    assert spoken.get_attribute("role") == "status"


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("path", ["", "docs"])
def test_contrast(page, server, dark, path):
    look(page, dark=dark)
    page.get(server.said["url"] + path)
    if not path:
        wait_for(page, lambda d: d.find_element("id", "choose").is_displayed())
        paste(page, png(), "a.png")
        shown(page)
        page.execute_script("document.getElementById('error').textContent = 'wrong'")
    found = page.execute_script(CONTRAST)
    assert len(found) > 8
    assert [entry for entry in found if entry[1] < LEAST_CONTRAST] == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_on_a_phone(page, dark, tmp_path):
    look(page, dark=dark, width=360, height=740, scale=2)
    page.find_element("id", "file").send_keys(str(file(tmp_path, photograph(400, 300), "a-long-name-" * 8 + ".jpg")))
    shown(page)
    wide = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.execute_script(wide) <= 0  # nothing to scroll sideways
    low = "return document.querySelector('#classes li').getBoundingClientRect().bottom - innerHeight"
    assert page.execute_script(low) <= 0  # the best class is seen without scrolling
    button = page.find_element("id", "choose")
    assert min(button.size.values()) >= 44  # CSS pixels: WCAG 2.2, 2.5.5
    picture = Image.open(io.BytesIO(base64.b64decode(page.get_screenshot_as_base64())))
    corner = picture.convert("L").getpixel((2, picture.height - 3))
    assert (corner < 64) == dark


def test_the_page_for_people(page, server):
    page.find_element("link text", "HTTP interface").click()
    wait_for(page, lambda d: d.title == "mbn-deploy: HTTP interface")
    assert "POST /classify" in page.find_element("tag name", "main").text
    assert f"{server.said['url']}classify" in page.find_element("tag name", "pre").text
    page.find_element("link text", "openapi.json").click()
    assert json.loads(page.find_element("tag name", "pre").text)["openapi"].startswith("3.")
