"""The command that measures blurfast beside other libraries, and reports what it finds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import click

from blurfast.bench.cases import FILTERS, PIXELS
from blurfast.bench.selection import PEERS, Selection, Sweeps, quick
from blurfast.io.output import AtomicFile
from blurfast.resources import thread_count
from blurfast_cli import options
from blurfast_cli.console import Console
from blurfast_cli.failures import SOME_FAILED
from blurfast_cli.interrupts import Stopped
from blurfast_cli.progress import ProgressBar

if TYPE_CHECKING:
    from blurfast.bench.compare import Comparison
    from blurfast.bench.report import Report

_BACKENDS = ("cpu", "cuda")
_PIXELS = {kind.split()[0].lower(): kind for kind in PIXELS}
_STDOUT = "-"
_STEPS_PER_SECOND = 10


class _List(options.Checked):
    """Several values with commas between them.

    Parameters
    ----------
    name
        What they are, as the help spells it.
    value_of
        Returns one value, or raises a `ValueError` whose message is for the user.
    """

    def __init__(self, name: str, value_of: Callable[[str], Any]) -> None:
        super().__init__(name, lambda text: tuple(value_of(part.strip()) for part in text.split(",") if part.strip()))


def _one_of(choices: Sequence[str]) -> Callable[[str], str]:
    def check(text: str) -> str:
        if text not in choices:
            raise ValueError(f"{text!r} is none of {', '.join(choices)}.")
        return text

    return check


def _number(kind: type[int] | type[float], least: float, most: float) -> Callable[[str], float]:
    def check(text: str) -> float:
        number = kind(text)
        if not least <= number <= most:
            raise ValueError(f"{text} is not from {least:g} to {most:g}.")
        return number

    return check


def _kernel_side(text: str) -> float:
    side = _number(int, 1, 1001)(text)
    if side % 2 == 0:
        raise ValueError(f"{text} is not odd, and kernels need a middle.")
    return side


def _pixels(text: str) -> str:
    return _PIXELS[_one_of(tuple(_PIXELS))(text)]


_CASES = (
    options.Option(
        "--quick", group=options.Group.CASES, is_flag=True, help="Small images and few runs: half a minute at most."
    ),
    options.Option(
        "--filters",
        group=options.Group.CASES,
        type=_List("NAME,...", _one_of(FILTERS)),
        help=f"Filters to measure, of {', '.join(FILTERS)}.  [default: all]",
    ),
    options.Option(
        "--sizes",
        group=options.Group.CASES,
        type=_List("N,...", _number(int, 16, 32_768)),
        help="Rows and columns of the images.  [default: 4096]",
    ),
    options.Option(
        "--sigmas",
        group=options.Group.CASES,
        type=_List("X,...", _number(float, 0.1, 1000)),
        help="Sigmas of Gaussians.  [default: 1,2,5,10,20,50]",
    ),
    options.Option(
        "--kernel-sides",
        group=options.Group.CASES,
        type=_List("N,...", _kernel_side),
        help="Rows and columns of kernels, odd numbers.  [default: 7,31,127]",
    ),
    options.Option(
        "--dtypes",
        "pixels",
        group=options.Group.CASES,
        type=_List("NAME,...", _pixels),
        help=f"Types of pixels, of {', '.join(_PIXELS)} (8 bits).  [default: all]",
    ),
    options.Option(
        "--peers",
        group=options.Group.CASES,
        type=_List("NAME,...", _one_of(PEERS)),
        help=f"Libraries to compare with, of {', '.join(PEERS)}; '' for none.  [default: all that are installed]",
    ),
    options.Option(
        "--sweeps/--no-sweeps",
        group=options.Group.CASES,
        default=None,
        help="Whether to measure curves: against sigma, the side of kernels, the size of images and files, and "
        "threads.  [default: unless sizes, sigmas, sides or dtypes are given]",
    ),
)
_RESULTS = (
    options.Option(
        "--from",
        "source",
        group=options.Group.CASES,
        type=click.Path(),
        metavar="FILE",
        help="Measure nothing; take the result from a file that --json wrote.",
    ),
    options.Option(
        "--html",
        "html_path",
        group=options.Group.OUTPUT,
        type=click.Path(),
        metavar="FILE",
        help="Write a page of charts and tables.",
    ),
    options.Option(
        "--json",
        "json_path",
        group=options.Group.OUTPUT,
        type=click.Path(),
        metavar="FILE",
        help="Write the result as JSON; - is stdout.",
    ),
    options.Option(
        "--markdown",
        group=options.Group.OUTPUT,
        is_flag=True,
        help="Print tables as Markdown on stdout, as is done where no other output is asked for.",
    ),
    options.Option(
        "--compare",
        group=options.Group.OUTPUT,
        type=click.Path(),
        metavar="FILE",
        help="Print what changed by more than the noise since a result that --json wrote. "
        "The exit status is 1 if anything is slower or less exact.",
    ),
)
_OVERWRITE = options.Option("--overwrite", group=options.Group.OUTPUT, is_flag=True, help="Replace outputs that exist.")
_THREADS = options.Option(
    "--threads",
    group=options.Group.RESOURCES,
    type=options.WholeNumber(min=1),
    metavar="N",
    help="Threads of every library that can have several.  [default: one for each processor]",
)
_BACKEND = options.Option(
    "--backend",
    "backends",
    group=options.Group.RESOURCES,
    type=_List("NAME,...", _one_of(_BACKENDS)),
    help="What computes, of cpu, cuda.  [default: cpu]",
)


@click.command(
    cls=options.Command,
    params=[*_CASES, *_RESULTS, _OVERWRITE, _BACKEND, _THREADS, options.QUIET, options.DEBUG],
    examples=(
        "bench --quick",
        "bench --html report.html --json result.json",
        "bench --filters gaussian --sizes 1024 --sigmas 2,20 --peers opencv",
        "bench --quick --compare old.json --json new.json",
        "bench --from result.json --html report.html",
    ),
)
@click.pass_context
def bench(
    context: click.Context,
    /,
    source: str | None,
    html_path: str | None,
    json_path: str | None,
    *,
    markdown: bool,
    compare: str | None,
    overwrite: bool,
    **selected: Any,
) -> None:
    """Measure blurfast beside other libraries, and report it.

    Times, with errors beside them, and how near they come to what this machine can do. Libraries that are not
    installed are skipped and named. All take turns, with the same number of threads. Without --quick this takes about
    half an hour. Interrupt it at any time: what has been measured until then is reported. Other work on the machine
    disturbs the result.
    """
    from blurfast.bench.compare import compare as compare_reports
    from blurfast.bench.report import load_report

    console = Console.current()
    earlier = None if compare is None else load_report(compare)
    with ExitStack() as stack:
        outputs = _Outputs.open(stack, html_path, json_path, overwrite=overwrite)
        report, stop = (load_report(source), None) if source else _measure(_selection(**selected), console)
        outputs.write_json(report, console)
        comparison = None if earlier is None or stop is not None else compare_reports(earlier, report)
        outputs.write_page(report, comparison, console)
    _print(report, comparison, console, markdown=markdown or not (html_path or json_path or compare))
    if stop is not None:
        raise stop
    context.exit(SOME_FAILED if comparison is not None and comparison.is_worse else 0)


class _Outputs(NamedTuple):
    """The files that are asked for, opened before anything is measured; they appear when they are complete."""

    html: AtomicFile | None
    json: AtomicFile | None
    prints_json: bool

    @classmethod
    def open(cls, stack: ExitStack, html_path: str | None, json_path: str | None, *, overwrite: bool) -> Self:
        """Make sure that all can be written, now and not after all is measured."""

        def opened(path: str | None) -> AtomicFile | None:
            if path is None or path == _STDOUT:
                return None
            file = AtomicFile(path, overwrite=overwrite)
            stack.callback(file.abort)
            return file

        if html_path is not None:
            from blurfast.bench.page import plotly_script

            plotly_script()
        return cls(opened(html_path), opened(json_path), json_path == _STDOUT)

    def write_json(self, report: Report, console: Console) -> None:
        """Write the JSON, if it is asked for."""
        if self.prints_json:
            console.result(report.to_json().rstrip())
        if self.json is not None:
            _write(self.json, report.to_json())
            console.message(f"written to {self.json.path}")

    def write_page(self, report: Report, comparison: Comparison | None, console: Console) -> None:
        """Write the page, if it is asked for."""
        if self.html is not None:
            from blurfast.bench.page import render

            _write(self.html, render(report, comparison))
            console.message(f"written to {self.html.path}")


def _write(file: AtomicFile, text: str) -> None:
    with file.translated_errors():
        file.file.write(text.encode())
    file.commit()


def _print(report: Report, comparison: Comparison | None, console: Console, *, markdown: bool) -> None:
    from blurfast.bench import compare
    from blurfast.bench.markdown import render

    if markdown:
        console.result(render(report).rstrip())
    if comparison is not None:
        console.result(compare.render(comparison).rstrip())


def _selection(*, sweeps: bool | None, **selected: Any) -> Selection:
    """Return what the options ask for, with the defaults of a quick or of a full run for the rest."""
    threads = thread_count(selected.pop("threads"))
    is_quick = selected.pop("quick")
    given: dict[str, Any] = {name: value for name, value in selected.items() if value is not None}
    if sweeps is None:
        sweeps = not {"sizes", "sigmas", "kernel_sides", "pixels"} & set(given)
    if not sweeps:
        given["sweeps"] = None
    return replace(quick(threads) if is_quick else Selection(threads, sweeps=Sweeps()), **given)


def _measure(selection: Selection, console: Console) -> tuple[Report, Stopped | None]:
    """Return what was measured, and what interrupted it."""
    from blurfast.bench.libraries import find_contestants
    from blurfast.bench.session import Session

    contestants = find_contestants(selection.peers, selection.threads)
    for name, reason in contestants.absent.items():
        console.message(f"{name} is left out: {reason}")
    session = Session(selection, contestants)
    with ProgressBar("preparing", "steps", visible=console.shows_progress) as bar:

        def show(done: float, total: float, label: str) -> None:
            bar.relabel(label)
            bar(round(done * _STEPS_PER_SECOND), max(1, round(total * _STEPS_PER_SECOND)))

        try:
            return session.run(show), None
        except Stopped as stop:
            count = f"{len(session.report.results)} of {len(session.cases)} cases"
            console.message(f"interrupted: {count} have been measured, and are reported")
            return session.report, stop
