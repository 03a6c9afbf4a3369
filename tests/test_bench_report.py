"""What is made of reports: JSON, tables, comparisons, charts and pages."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from html.parser import HTMLParser

import pytest

from blurfast.bench import charts, compare, markdown, page
from blurfast.bench.cases import Case
from blurfast.bench.compare import Comparison
from blurfast.bench.libraries import LIBRARIES, OWN
from blurfast.bench.report import Report, load_report
from blurfast.bench.selection import QUICK_SWEEPS, Selection, quick
from blurfast.errors import UnreadableError, UnsupportedError
from tests.bench_reports import MACHINE, report_of, seconds_of

FEW = Selection(2, pixels=("float32", "uint8"), sizes=(1024,), sigmas=(1.0, 20.0), kernel_sides=(7,))
QUICK = report_of(quick(2))


def scaled(factor, name=OWN, **options):
    """Return a report in which one library takes so many times as long."""
    return report_of(FEW, lambda case, who: seconds_of(case, who) * (factor if who == name else 1.0), **options)


# ---- JSON


def test_json_holds_everything(tmp_path):
    report = report_of(quick(2))
    report.skipped["torch"] = "not there"
    report.results[0].failures["scipy"] = "ValueError: é"
    path = tmp_path / "result.json"
    path.write_text(report.to_json(), encoding="utf-8")
    assert load_report(path) == report


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("", "is no result"),
        ("[]", "is no result"),
        ("{}", "'blurfast_bench'"),
        ('{"blurfast_bench": 99}', "another version"),
        ('{"blurfast_bench": 1, "ceilings": null, "results": [{}]}', "lacks something"),
    ],
)
def test_other_files_are_refused(tmp_path, text, fact):
    (tmp_path / "other.json").write_text(text)
    with pytest.raises(UnreadableError, match=fact):
        load_report(tmp_path / "other.json")


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(UnreadableError, match="cannot be read"):
        load_report(tmp_path / "none.json")


# ---- Markdown


def test_comparison_shows_times_ratio_and_errors():
    gaussians = [result for result in report_of(FEW).results if result.case.filter == "gaussian"]
    lines = markdown.comparison(gaussians).splitlines()
    assert lines[0].startswith("| image | sigma | blurfast | OpenCV | scipy | pyvips | OpenCV / blurfast |")
    assert lines[2] == "| float32 | 1 | 3.1 | 2.3 | 15.6 | 6.2 | **0.8** | 1e-07 | 1e-05 | 1e-05 (OpenCV) |"
    assert len({line.count("|") for line in lines}) == 1


def test_comparison_has_a_dash_where_a_library_has_no_such_filter():
    results = [result for result in report_of(FEW).results if result.case.filter == "gaussian"]
    del results[0].measurements["OpenCV"]
    assert "| 3.1 | - | 15.6 | 6.2 | - | 1e-07 | - |" in markdown.comparison(results)


def test_markdown_names_what_was_left_out():
    report = dataclasses.replace(report_of(FEW), skipped={"torch": "not there"}, complete=False)
    report.results[0].failures["scipy"] = "ValueError: no"
    text = markdown.render(report)
    assert "- torch: not there" in text
    assert f"- scipy failed at {report.results[0].case.title}: ValueError: no" in text
    assert f"Interrupted: {len(report.results)} cases were measured." in text
    assert "## gaussian, 1024 x 1024 in memory" in text
    assert "## convolve, 1024 x 1024 in memory" in text


# ---- comparisons


def verdicts(comparison: Comparison) -> set[str]:
    return {change.verdict for change in comparison.changes if change.title.endswith(f": {OWN}")}


@pytest.mark.parametrize(
    ("factor", "spread", "verdict", "is_worse"),
    [
        (1.0, 0.0, "same", False),
        (1.04, 0.0, "same", False),
        (1.06, 0.0, "slower", True),
        (0.96, 0.0, "same", False),
        (0.94, 0.0, "faster", False),
        (1.3, 0.2, "same", False),
        (1.5, 0.2, "slower", True),
    ],
)
def test_what_exceeds_the_noise_has_changed(factor, spread, verdict, is_worse):
    compared = compare.compare(scaled(1.0, spread=spread), scaled(factor, spread=spread))
    assert verdicts(compared) == {verdict}
    assert compared.is_worse is is_worse


def test_few_runs_count_as_noisy():
    assert verdicts(compare.compare(scaled(1.0, runs=1), scaled(1.2))) == {"same"}
    assert verdicts(compare.compare(scaled(1.0, runs=1), scaled(1.3))) == {"slower"}


def test_a_slower_machine_is_no_change():
    slower = report_of(FEW, lambda case, name: 1.4 * seconds_of(case, name))
    compared = compare.compare(report_of(FEW), slower)
    assert compared.drift == pytest.approx(1.4)
    assert {change.verdict for change in compared.changes} == {"same"}


def test_other_libraries_are_no_changes_of_ours():
    assert not compare.compare(scaled(1.0), scaled(2.0, name="pyvips")).is_worse


def test_larger_errors_are_told():
    before, after = report_of(FEW), report_of(FEW)
    result = after.results[0]
    own = result.measurements[OWN]
    result.measurements[OWN] = dataclasses.replace(own, error=own.error * 20)
    compared = compare.compare(before, after)
    (worse,) = [change for change in compared.changes if change.verdict != "same"]
    assert (worse.title, worse.verdict) == (f"{result.case.title}: {OWN}", "less exact")
    assert compared.is_worse
    assert f"| {worse.title} | " in compare.render(compared)
    assert "1 results less exact" in compare.render(compared)


def test_only_equal_cases_are_compared():
    wider = Selection(2, pixels=("float32",), sizes=(1024, 2048), sigmas=(1.0, 2.0), kernel_sides=(7,))
    titles = {change.title for change in compare.compare(report_of(FEW), report_of(wider)).changes}
    assert f"gaussian, sigma 1, 1024 x 1024 float32: {OWN}" in titles
    assert not any("2048" in title or "sigma 2," in title for title in titles)
    other = Selection(2, filters=("gaussian",), sizes=(64,))
    with pytest.raises(UnsupportedError, match="no case in common"):
        compare.compare(report_of(FEW), report_of(other))


# ---- charts


def test_every_scaling_is_drawn():
    drawn = {chart.key: chart for chart in charts.charts_of(QUICK)}
    assert list(drawn) == ["sigma", "kernel", "kernel-rank-1", "size", "threads", "roofline", "ratios"]
    curve = drawn["sigma"].curves[0]
    assert curve.name == OWN
    assert tuple(point.x for point in curve.points) == QUICK_SWEEPS.sigmas
    expected = seconds_of(Case("gaussian", QUICK_SWEEPS.side, "float32", sigma=5.0), OWN) * 1e3
    assert next(point.y for point in curve.points if point.x == 5) == pytest.approx(expected)
    assert {curve.name for curve in drawn["kernel"].curves} >= {OWN, f"{OWN}, direct", f"{OWN}, fft", "OpenCV"}
    assert [point.x for point in drawn["threads"].curves[0].points] == [1, 2]
    assert drawn["roofline"].curves[0].points[1].y == 200
    losses = [point for curve in drawn["ratios"].curves for point in curve.points if point.y < 1]
    assert losses


def test_files_are_drawn_beside_memory():
    sizes = dataclasses.replace(QUICK_SWEEPS, file_sizes=(512, 1024))
    report = report_of(dataclasses.replace(quick(2), sweeps=sizes))
    size = next(chart for chart in charts.charts_of(report) if chart.key == "size")
    dashes = {curve.name: curve.dash for curve in size.curves}
    assert (dashes[OWN], dashes[f"{OWN}, file to file"]) == ("solid", "dash")


def test_nothing_is_drawn_of_nothing():
    assert charts.charts_of(Report(MACHINE)) == []


def test_charts_are_told_in_words():
    for chart in charts.charts_of(QUICK):
        assert chart.x_title in chart.description
        assert all(curve.name in chart.description for curve in chart.curves)
        json.dumps(chart.to_plotly())


def luminance(colour: str) -> float:
    """Return the relative luminance of a colour, as the Web Content Accessibility Guidelines define it."""
    shares = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def palettes() -> list[dict[str, str]]:
    """Return the variables of the page's styles: light, dark, printed."""
    style = page._asset("report.css")
    return [
        dict(re.findall(r"--(\w+): (#\w{6});", block)) for block in re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    ]


def test_text_and_curves_stand_out_from_the_background():
    light, dark, printed = palettes()
    for palette in (light, dark, printed):
        for name in ("ink", "muted", "win", "loss", "accent"):
            assert contrast(palette[name], palette["paper"]) >= 4.5, (name, palette)
            assert contrast(palette[name], palette["panel"]) >= 4.5, (name, palette)
        assert min(contrast(colour, palette["paper"]) for colour in charts.PALETTE) >= 3
    assert len(set(charts.PALETTE)) == len(charts.PALETTE) >= len(LIBRARIES)


# ---- pages


class Outline(HTMLParser):
    """Collects the headings, the tags and the attributes of a page, and checks that tags are closed in order."""

    VOID = ("meta", "link")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.headings: list[int] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.plots: list[dict[str, str]] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if re.fullmatch(r"h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if "id" in attributes:
            self.ids.append(attributes["id"])
        self.links += [attributes[name] for name in ("href", "src") if name in attributes]
        if attributes.get("class") == "plot":
            self.plots.append(attributes)
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag


@pytest.fixture(scope="module")
def rendered():
    pytest.importorskip("plotly")
    worse = report_of(quick(2), lambda case, name: seconds_of(case, name) * (2 if name == OWN else 1))
    return page.render(QUICK, compare.compare(QUICK, worse))


def test_page_is_whole_and_small(rendered):
    outline = Outline(rendered)
    assert len(rendered.encode()) < 5e6
    assert len(outline.ids) == len(set(outline.ids))
    assert outline.headings[0] == 1
    assert outline.headings.count(1) == 1
    assert all(deeper <= level + 1 for level, deeper in zip(outline.headings, outline.headings[1:], strict=False))
    assert {link for link in outline.links if not link.startswith("#")} == {"data:,"}
    assert {link[1:] for link in outline.links if link.startswith("#")} <= set(outline.ids)
    assert len(outline.plots) == len(charts.charts_of(QUICK))
    assert all(plot["role"] == "img" and len(plot["aria-label"]) > 80 for plot in outline.plots)


def test_page_escapes_what_it_is_given(rendered):
    assert "A processor &lt;of tests&gt;" in rendered
    assert "<of tests>" not in rendered


def test_page_shows_losses_like_wins(rendered):
    losses = re.findall(r'<td class="loss" data-value="[\d.]+">([\d.]+)x</td>', rendered)
    wins = re.findall(r'<td class="win" data-value="[\d.]+">([\d.]+)x</td>', rendered)
    assert losses
    assert wins
    assert all(float(ratio) <= 1 for ratio in losses)
    assert all(float(ratio) >= 1 for ratio in wins)
    assert f"blurfast is the fastest in {len(wins)} of {len(wins) + len(losses)} comparisons" in rendered
    assert len(re.findall(r"<li>[^<]* times as fast</li>", rendered)) == len(losses)


def test_page_without_plotly_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    with pytest.raises(UnsupportedError, match=re.escape("install blurfast[bench-report]")):
        page.render(QUICK)


def test_interrupted_page_says_so():
    pytest.importorskip("plotly")
    text = page.render(dataclasses.replace(report_of(FEW), complete=False, skipped={"torch": "<not there>"}))
    assert "Interrupted" in text
    assert "torch: &lt;not there&gt;" in text
    assert "Interrupted" not in page.render(report_of(FEW))
