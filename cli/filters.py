"""The commands that filter files, each made from the class of its filter."""

from __future__ import annotations

import dataclasses
import inspect
import re
import typing
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import click
from numpy.typing import ArrayLike

from blurfast.files import FileReport, filter_file, plan_file
from blurfast.filters import Convolution, Filter, Gaussian
from blurfast.kernel_shapes import SHAPES
from blurfast.resources import format_memory
from blurfast_cli import options
from blurfast_cli.batch import Action, Job, Outcome, make_directory, pair_files, run_batch
from blurfast_cli.console import Console
from blurfast_cli.plans import explain_plans
from blurfast_cli.progress import ProgressBar

_FilterClass = type[Gaussian | Convolution]
_AnyFilter = TypeVar("_AnyFilter", bound=Gaussian | Convolution)

_TYPES: dict[Any, Any] = {
    float | tuple[float, float]: options.PerAxis(float),
    int | tuple[int, int]: options.PerAxis(int),
    float | None: click.FLOAT,
    ArrayLike: options.Text("FILE|NAME"),
    bool: click.BOOL,
}


def filter_command(filter_class: _FilterClass, *, description: str, examples: Iterable[str]) -> click.Command:
    """Return the command that filters files with one class of filters.

    The fields of the class become options, with its docstring's words as their help; the options that all filters
    share join them.
    """
    names = [field.name for field in _parameters(filter_class)]

    def run(paths: Sequence[str], out_dir: str | None, *, explain: bool, as_json: bool, **values: Any) -> None:
        console = Console.current()
        filter = build_filter(filter_class, {name: values.pop(name) for name in names})
        jobs = pair_files(paths, out_dir, need_output=not explain)
        if explain:
            del values["overwrite"], values["compression"]
            action = _explain_action(filter, values)
        else:
            if out_dir is not None:
                make_directory(out_dir)
            action = _filter_action(filter, values, console)
        click.get_current_context().exit(run_batch(jobs, action, console, as_json=as_json))

    return options.Command(
        filter_class.name,
        callback=run,
        params=[options.PATHS, *_field_options(filter_class), *options.FILTER_OPTIONS],
        help=description,
        examples=examples,
    )


def _parameters(filter_class: _FilterClass) -> list[dataclasses.Field[Any]]:
    return [field for field in dataclasses.fields(filter_class) if field.init]


def _field_options(filter_class: _FilterClass) -> list[click.Parameter]:
    types, explanations = typing.get_type_hints(filter_class), _explanations(filter_class)
    return [
        options.Option(
            f"--{field.name.replace('_', '-')}",
            group=options.Group.FILTER,
            type=_TYPES[types[field.name]],
            help=explanations.get(field.name),
            show_default=types[field.name] is not bool,
            **({"is_flag": True} if types[field.name] is bool else {}),
            **({"required": True} if field.default is dataclasses.MISSING else {"default": field.default}),
        )
        for field in _parameters(filter_class)
    ]


def _explanations(documented: type) -> dict[str, str]:
    """Return what a class's docstring says of each parameter, less the sentences that refer to Python names."""
    section = (inspect.getdoc(documented) or "").partition("Parameters\n----------\n")[2].partition("\n\n")[0]
    explanations = {}
    for entry in re.split(r"\n(?=\S)", section):
        name, _, text = entry.partition("\n")
        sentences = re.split(r"(?<=[.;:]) (?=[A-Z])", " ".join(text.split()))
        explanations[name] = " ".join(sentence for sentence in sentences if "`" not in sentence)
    return explanations


def build_filter(filter_class: type[_AnyFilter], values: dict[str, Any]) -> _AnyFilter:
    """Return the filter, or raise a usage error that names the option which it refuses."""
    try:
        return filter_class(**values)
    except (TypeError, ValueError) as error:
        name = str(error).split(maxsplit=1)[0]
        option = f"'--{name.replace('_', '-')}'" if name in values else None
        message = options.without_name(str(error), name)
        raise click.BadParameter(message, click.get_current_context(), param_hint=option) from error


def _filter_action(filter: Filter, settings: dict[str, Any], console: Console) -> Action:
    def action(job: Job) -> Outcome:
        assert job.target is not None
        with ProgressBar(job.label, "MP", scale=1e6, visible=console.shows_progress) as bar:
            report = filter_file(job.source, job.target, filter, progress=bar, **settings)
        console.message(_summary(report))
        for notice in report.notices:
            console.message(f"note: {report.source}: {notice}")
        return Outcome(report.as_dict())

    return action


def _explain_action(filter: Filter, settings: dict[str, Any]) -> Action:
    def action(job: Job) -> Outcome:
        plans = plan_file(job.source, filter, **settings)
        return Outcome({"plans": [plan.as_dict() for plan in plans]}, explain_plans(job.source, plans))

    return action


def _summary(report: FileReport) -> str:
    megapixels = report.pixels / 1e6
    size = f"{megapixels:.1f}" if megapixels >= 0.1 else f"{megapixels:.2g}"
    rate = megapixels / max(report.seconds, 1e-9)
    return (
        f"{report.source} -> {report.target}: {size} MP in {report.seconds:.1f} s, {rate:.3g} MP/s, "
        f"peak {format_memory(report.peak_memory)}"
    )


gaussian = filter_command(
    Gaussian,
    description="""Blur image files, or take derivatives of a Gaussian blur.

    Files of any size are streamed through bounded memory. OUT's suffix names its format, and OUT appears when it is
    complete, or not at all.""",
    examples=(
        "gaussian photo.png blurred.png --sigma 5",
        "gaussian *.tif --out-dir blurred/ --sigma 5,3 --compression zstd",
        "gaussian scan.tif edges.tif --sigma 2 --order 0,1",
        "gaussian huge.tif --sigma 50 --max-memory 512MB --explain",
    ),
)

convolve = filter_command(
    Convolution,
    description=f"""Convolve image files with a kernel of any size.

    The kernel is the path of a .npy, .csv or .txt matrix or of a small .png or .tif image, or one of these names,
    with parameters after a colon: {", ".join(SHAPES)}. Files of any size are streamed through bounded memory.""",
    examples=(
        "convolve photo.png bokeh.png --kernel disk:7",
        "convolve photo.png panned.png --kernel motion:21,30deg",
        "convolve *.tif --out-dir deblurred/ --kernel psf.npy --normalize",
        "convolve huge.tif --kernel psf.npy --explain",
    ),
)
