"""The page of `blurfast bench --html` in a real browser, at the width of a phone and of a desk, light and dark.

The browser is headless Chromium, Debian's packages `chromium` and `chromium-driver`, or Chrome. Where it is missing,
these tests are skipped, and say so.
"""

from __future__ import annotations

import base64
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from blurfast.bench import charts, compare, page
from blurfast.bench.libraries import OWN
from blurfast.bench.selection import quick
from tests.bench_reports import report_of, seconds_of

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: pip install 'blurfast[test]'")
pytest.importorskip("plotly", reason="plotly is not installed: pip install 'blurfast[test]'")

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
if BROWSER is None or DRIVER is None:
    pytest.skip("no browser is installed: apt-get install chromium chromium-driver", allow_module_level=True)

PHONE, DESK = 390, 1280
SCREENS = [(PHONE, "light"), (DESK, "light"), (DESK, "dark")]
ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
LONGEST_WAIT = 60.0


@pytest.fixture(scope="module")
def report_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    report = report_of(quick(2))
    worse = report_of(quick(2), lambda case, name: seconds_of(case, name) * (2 if name == OWN else 1))
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(page.render(report, compare.compare(report, worse)), encoding="utf-8")
    return path


class Screen:
    """The report on a screen.

    Parameters
    ----------
    driver
        Of the browser, which shows the report already.
    width
        Of the screen, in pixels.
    """

    def __init__(self, driver: Any, width: int) -> None:
        self.width = width
        self._driver = driver

    def run(self, script: str) -> Any:
        """Return what a script gives that runs in the page."""
        return self._driver.execute_script(script)

    def each(self, selector: str, expression: str) -> list[Any]:
        """Return what an expression gives for each `node` that a selector finds."""
        return list(self.run(f"return [...document.querySelectorAll('{selector}')].map((node) => {expression})"))

    def wait_for_plots(self) -> None:
        """Wait until the page has said how drawing ended."""
        deadline = time.monotonic() + LONGEST_WAIT
        while self.run("return document.documentElement.dataset.plots") is None:
            assert time.monotonic() < deadline, "nothing was drawn"
            time.sleep(0.1)

    def point_at(self, x: float, y: float) -> None:
        """Move the mouse to a position of the window."""
        self._driver.execute_cdp_cmd("Input.dispatchMouseEvent", {"type": "mouseMoved", "x": x, "y": y})

    def press(self, key: str) -> None:
        """Press a key where the focus is."""
        self._driver.switch_to.active_element.send_keys(key)

    @property
    def console(self) -> list[dict[str, Any]]:
        """What the page has complained about since this was asked last."""
        return list(self._driver.get_log("browser"))

    @property
    def requests(self) -> set[str]:
        """What has been asked of anything but the browser itself and the page."""
        events = [json.loads(entry["message"])["message"] for entry in self._driver.get_log("performance")]
        sent = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
        return {url for url in sent if not url.startswith(("chrome:", "data:", "blob:"))}

    def printed_pages(self) -> bytes:
        """Return the page as it is printed, as PDF."""
        return base64.b64decode(self._driver.execute_cdp_cmd("Page.printToPDF", {})["data"])


@pytest.fixture(scope="module", params=SCREENS, ids=lambda screen: f"{screen[0]}-{screen[1]}")
def screen(
    request: pytest.FixtureRequest, report_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Screen]:
    width, scheme = request.param
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for argument in (*ARGUMENTS, f"--user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    try:
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width == PHONE}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        driver.get(report_file.as_uri())
        shown = Screen(driver, width)
        shown.wait_for_plots()
        yield shown
    finally:
        driver.quit()


def test_plots_are_drawn_and_nobody_complains(screen: Screen, report_file: Path) -> None:
    """The first test of a screen: it looks at all that happened while the page was loaded."""
    assert screen.run("return document.documentElement.dataset.plots") == "drawn"
    drawn = screen.each(".plot", "node.querySelectorAll('.scatterlayer .trace').length")
    assert drawn == [len(chart.curves) for chart in charts.charts_of(report_of(quick(2)))]
    assert screen.console == []
    assert screen.requests == {report_file.as_uri()}
    assert screen.run("return document.getElementById('no-plots').hidden")


def test_page_fits_the_screen(screen: Screen) -> None:
    assert screen.run("return document.documentElement.scrollWidth") <= screen.width
    widths = screen.each(".plot .main-svg", "node.clientWidth")
    assert all(200 < width <= screen.width for width in widths)
    assert set(screen.each(".scroll", "node.tabIndex")) == {0}  # wide tables can be scrolled, by keyboard too
    assert set(screen.each(".scroll", "getComputedStyle(node).overflowX")) == {"auto"}


def test_plots_have_room_for_their_curves(screen: Screen) -> None:
    heights = screen.each(".plot .nsewdrag", "node.getBoundingClientRect().height")
    assert len(heights) == len(charts.charts_of(report_of(quick(2))))
    assert min(heights) > 140


def column(screen: Screen, table: str, index: int) -> list[float]:
    return [float(value) for value in screen.each(f"{table} tbody tr", f"node.cells[{index}].dataset.value")]


TABLE = "#ceilings table"


def sort_state(screen: Screen) -> list[str | None]:
    return screen.each(f"{TABLE} thead th", "node.getAttribute('aria-sort')")


def test_tables_are_sorted_by_number(screen: Screen) -> None:
    before = column(screen, TABLE, 2)
    press = f"document.querySelectorAll('{TABLE} thead button')[2].click();"
    assert before != sorted(before)
    screen.run(press)
    assert column(screen, TABLE, 2) == sorted(before)
    assert sort_state(screen)[:4] == [None, None, "ascending", None]
    screen.run(press)
    assert column(screen, TABLE, 2) == sorted(before, reverse=True)
    assert sort_state(screen)[:4] == [None, None, "descending", None]


def test_tables_are_sorted_by_keyboard_and_by_text(screen: Screen) -> None:
    screen.run(f"document.querySelectorAll('{TABLE} thead button')[0].focus()")
    screen.press("\n")
    titles = screen.each(f"{TABLE} tbody th", "node.textContent")
    numbers = [title.split(",")[1] for title in titles if title.startswith("gaussian") and "512 x 512" in title]
    assert numbers == sorted(numbers, key=lambda text: float(text.split()[-1]))
    assert titles[0].startswith("convolve")
    assert titles[-1].startswith("gaussian")


def test_values_appear_where_one_points(screen: Screen) -> None:
    place = screen.run(
        "const plot = document.getElementById('plot-sigma'); plot.scrollIntoView({block: 'center'});"
        "const box = plot.querySelector('.scatterlayer .trace .point').getBoundingClientRect();"
        "return [box.x + box.width / 2, box.y + box.height / 2]"
    )
    screen.point_at(*place)
    deadline = time.monotonic() + LONGEST_WAIT
    while not (text := screen.run("return document.querySelector('#plot-sigma .hoverlayer').textContent")):
        assert time.monotonic() < deadline, "nothing appeared"
        time.sleep(0.05)
    assert text.startswith(f"{OWN}: ")
    assert "sigma 1, 512 x 512 float32" in text


def test_page_is_told_to_those_who_cannot_see_it(screen: Screen) -> None:
    assert screen.run("return document.documentElement.lang") == "en"
    assert all(screen.each("table", "node.caption.textContent.trim()"))
    assert all(screen.each(".plot", "node.getAttribute('role') === 'img' && node.ariaLabel.length > 80"))
    assert screen.each("h1, h2, h3", "node.tagName").count("H1") == 1


def test_colours_follow_the_scheme(screen: Screen, request: pytest.FixtureRequest) -> None:
    is_dark = "dark" in request.node.name
    (paper,) = screen.each("body", "getComputedStyle(node).backgroundColor")
    (ink,) = screen.each("body", "getComputedStyle(node).color")
    assert (paper == "rgb(20, 23, 28)") == is_dark
    assert set(screen.each(".plot .xtick text", "getComputedStyle(node).fill")) == {ink}


def test_page_can_be_printed_and_stays_as_it_was(screen: Screen) -> None:
    assert screen.printed_pages().startswith(b"%PDF-")
    assert screen.run("return document.documentElement.scrollWidth") <= screen.width
    assert screen.console == []
