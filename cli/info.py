"""The command that tells what image files are, and what filtering them would take."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence
from typing import Any

import click

from blurfast.errors import BlurfastError
from blurfast.files import plan_file
from blurfast.filters import Gaussian
from blurfast.io.changes import refusing_changes
from blurfast.io.metadata import Metadata
from blurfast.io.registry import open_source
from blurfast.planning import Plan
from blurfast.resources import format_memory
from blurfast_cli import options
from blurfast_cli.batch import Job, Outcome, run_batch
from blurfast_cli.console import Console
from blurfast_cli.filters import build_filter
from blurfast_cli.pairing import list_inputs
from blurfast_cli.plans import group_equal, span_name
from blurfast_cli.streams import file_of, refuse_misuse

_METRES_PER_INCH = 0.0254
_LONGEST_TEXT = 60

# Properties whose values don't speak for themselves.
_PROPERTIES: dict[str, Callable[[Any], str]] = {
    "bigtiff": lambda _: "BigTIFF",
    "byte_order": lambda order: f"{order}-endian",
    "compression": lambda compression: f"compression {compression}",
    "photometric": lambda photometric: f"photometric {photometric}",
    "planar": lambda _: "separate planes",
    "predictor": lambda predictor: f"predictor {predictor}",
    "rows_per_strip": lambda rows: f"strips of {rows} row{'s' * (rows > 1)}",
    "tile": lambda tile: f"tiles of {tile[0]} x {tile[1]}",
}

_SIGMA = options.Option(
    "--sigma",
    group=options.Group.FILTER,
    type=options.PerAxis(float),
    default=5.0,
    show_default=True,
    help="Tell what 'gaussian' with this sigma would take.",
)


@click.command(
    cls=options.Command,
    params=[
        click.Argument(["paths"], nargs=-1, required=True, type=click.Path(), metavar="FILE..."),
        *(_SIGMA, options.THREADS, options.MAX_MEMORY, options.JSON, options.QUIET, options.DEBUG),
    ],
    examples=("info scan.tif", "info *.tif --sigma 50 --max-memory 512MB --json"),
)
@click.pass_context
def info(context: click.Context, /, paths: Sequence[str], sigma: Any, as_json: bool, **limits: Any) -> None:
    """Show what image files are, and what filtering them would take.

    For FILE, '-' is stdin.
    """
    filter = build_filter(Gaussian, {"sigma": sigma})
    jobs = list_inputs(paths)
    refuse_misuse(jobs, output_format=None, as_json=as_json)
    context.exit(run_batch(jobs, functools.partial(_describe, filter, limits), Console.current(), as_json=as_json))


def _describe(filter: Gaussian, limits: dict[str, Any], job: Job) -> Outcome:
    with file_of(job.source) as path, refusing_changes(path) as refuse_change:
        with contextlib.closing(open_source(path)) as source:
            pages, metadata, notices = source.layout_description, source.metadata, list(source.notices)
        needs, needs_text = _needs(path, filter, limits)
        refuse_change()
    record = {"pages": pages, "metadata": _metadata_record(metadata), "notices": notices, filter.name: needs}
    lines = [*_page_lines(pages), *_metadata_lines(metadata), *(_line("note", notice) for notice in notices)]
    return Outcome(
        record, "\n".join([job.source_name, *lines, _line(f"{filter.name} {_spelled(filter.sigmas)}", needs_text)])
    )


def _needs(path: str, filter: Gaussian, limits: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Return what a filter would take, as data and as text; a refusal is an answer, too."""
    try:
        plans = plan_file(path, filter, **limits)
    except BlurfastError as error:
        text = f"{error.fact}; {error.remedy}" if error.remedy else error.fact
        return {"sigma": filter.sigmas, "error": text}, text
    windows, peak = sum(_window_count(plan) for plan in plans), max(plan.predicted_memory for plan in plans)
    record = {"sigma": filter.sigmas, "windows": windows, "predicted_peak": peak, "halo": plans[0].halo}
    return record, f"{windows} window{'s' * (windows > 1)}, at most {format_memory(peak)} of memory"


def _window_count(plan: Plan) -> int:
    assert plan.bands is not None
    return -(-plan.image.height // plan.bands.rows) * -(-plan.image.width // plan.bands.columns)


def _page_lines(pages: Sequence[dict[str, Any]]) -> list[str]:
    lines = []
    for span, page in group_equal(pages):
        (height, width, channels), details = page["shape"], dict(page)
        size = f"{height} x {width} pixels, {channels} channel{'s' * (channels > 1)}, {page['dtype']}"
        lines.append(_line(span_name("page", span), size))
        del details["shape"], details["dtype"]
        lines.append(_line("", ", ".join(filter(None, (_detail(name, value) for name, value in details.items())))))
    return lines


def _detail(name: str, value: Any) -> str | None:
    """Return one property of how a page is stored in words, or None if there is nothing to tell."""
    if value is None or value is False:
        return None
    if name in _PROPERTIES:
        return _PROPERTIES[name](value)
    return name if value is True else str(value)


def _metadata_record(metadata: Metadata) -> dict[str, Any]:
    return {
        "resolution": metadata.resolution,
        "icc_profile_bytes": len(metadata.icc_profile or b""),
        "exif_bytes": len(metadata.exif or b""),
        "text": dict(metadata.text),
    }


def _metadata_lines(metadata: Metadata) -> list[str]:
    lines = []
    if metadata.resolution is not None:
        horizontal, vertical = (f"{per_metre * _METRES_PER_INCH:.4g}" for per_metre in metadata.resolution)
        lines.append(_line("resolution", f"{horizontal} x {vertical} pixels per inch"))
    for name, block in (("ICC profile", metadata.icc_profile), ("Exif", metadata.exif)):
        if block:
            lines.append(_line(name, f"{len(block)} bytes"))
    return lines + [_line(_shortened(name), _shortened(text)) for name, text in metadata.text.items()]


def _shortened(text: str) -> str:
    """Return the start of a text that may hold anything, fit for a terminal."""
    line = "".join(character if character.isprintable() else " " for character in " ".join(text.split()))
    return line if len(line) <= _LONGEST_TEXT else f"{line[:_LONGEST_TEXT]}..."


def _spelled(sigmas: tuple[float, float]) -> str:
    vertical, horizontal = sigmas
    return f"{vertical:g}" if vertical == horizontal else f"{vertical:g},{horizontal:g}"


def _line(name: str, text: str) -> str:
    return f"  {name:<13} {text}"
