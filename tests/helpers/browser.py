"""A real browser without a screen, for tests of pages: the fixture `browser`, and files dropped and pasted into it.

Debian's chromium, the machine's own or the one that scripts/browser.sh unpacks, driven by selenium.
"""

import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2] / ".browser"
REASON = "there is no chromium with chromedriver; scripts/browser.sh unpacks them (it needs apt and dpkg-deb)"
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"),
    *("--hide-scrollbars", "--no-proxy-server", "--window-size=1000,900"),
)
# The contrast of every text that a page shows, as [element, ratio], and the least that is readable.
CONTRAST = """
const luminance = (text) => {
  const [r, g, b] = text.match(/[\\d.]+/g).map(Number).map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const backdrop = (node) => {
  for (let at = node; at; at = at.parentElement) {
    const colour = getComputedStyle(at).backgroundColor;
    if (!/^rgba\\(.*, 0\\)$/.test(colour)) return colour;
  }
  return getComputedStyle(document.documentElement).backgroundColor;
};
return [...document.querySelectorAll("body *")].filter((node) => node.checkVisibility()
  && [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim())).map((node) => {
  const [a, b] = [getComputedStyle(node).color, backdrop(node)].map(luminance);
  return [node.tagName + "#" + node.id, (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)];
});
"""
LEAST_CONTRAST = 4.5  # WCAG 2.2, 1.4.3 (AA)


@dataclass(frozen=True)
class Programs:
    """The browser, its driver, and the environment that they run in."""

    chromium: str
    driver: str
    environment: dict


def programs():
    """Return the machine's own browser, else the unpacked one; None where there is none."""
    if shutil.which("chromium") and shutil.which("chromedriver"):
        return Programs(shutil.which("chromium"), shutil.which("chromedriver"), dict(os.environ))
    if not (ROOT / "made-by").is_file():
        return None
    unpacked = ROOT / "root"
    libraries = sorted({library.parent for library in unpacked.glob("usr/lib/**/*.so*")})
    environment = {**os.environ, "LD_LIBRARY_PATH": ":".join(map(str, libraries))}
    environment["XDG_DATA_HOME"] = str(unpacked / "usr/share")  # where fontconfig looks for fonts, too
    if not Path("/etc/fonts/fonts.conf").exists():
        environment["FONTCONFIG_PATH"] = str(unpacked / "etc/fonts")
    return Programs(str(unpacked / "usr/lib/chromium/chromium"), str(unpacked / "usr/bin/chromedriver"), environment)


@pytest.fixture(scope="session")
def one_browser():
    found = programs()
    if found is None:
        pytest.skip(REASON)
    selenium = pytest.importorskip("selenium.webdriver", reason="selenium drives the browser: pip install selenium")
    options = selenium.ChromeOptions()
    options.binary_location = found.chromium
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with tempfile.TemporaryDirectory() as profile:
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        service = selenium.ChromeService(executable_path=found.driver, env=found.environment)
        driver = selenium.Chrome(options=options, service=service)
        driver.set_page_load_timeout(60)
        yield driver
        driver.quit()


@pytest.fixture
def browser(one_browser):
    """Return selenium's driver with no cookies, a light theme, 1000 × 900 pixels and an empty page."""
    driver = one_browser
    driver.get("about:blank")
    driver.execute_cdp_cmd("Network.clearBrowserCookies", {})
    look(driver)
    driver.get_log("browser")
    return driver


def look(driver, *, dark=False, width=1000, height=900, scale=1):
    """Set the page's size in CSS pixels, and its user's preferences."""
    scheme = "dark" if dark else "light"
    driver.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    size = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": width < 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def wait_for(driver, condition, seconds=30):
    """Wait until `condition(driver)` is true, and return what it gave."""
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(driver, seconds, poll_frequency=0.05).until(condition)


def drop(driver, path, x, y):
    """Drop the file onto a point, as the window system does."""
    data = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        driver.execute_cdp_cmd("Input.dispatchDragEvent", {"type": kind, "x": x, "y": y, "data": data})


def paste(driver, data, name, kind="image/png"):
    """Paste bytes as a file: the event that a browser makes of its clipboard."""
    driver.execute_script(
        "const transfer = new DataTransfer();"
        "transfer.items.add(new File([new Uint8Array(arguments[0])], arguments[1], {type: arguments[2]}));"
        "const about = {clipboardData: transfer, bubbles: true, cancelable: true};"
        "document.dispatchEvent(new ClipboardEvent('paste', about));",
        list(data),
        name,
        kind,
    )


def complaints(driver):
    """Return the browser's complaints about the page: script errors, refused resources."""
    return [json.dumps(entry) for entry in driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
