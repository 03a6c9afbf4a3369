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

from blurfast.choices import all_gpus
from blurfast.filters import Convolution, Gaussian
from blurfast.io.output_options import OutputKeywords
from blurfast.kernel_shapes import SHAPES
from blurfast.resources import Resources
from blurfast_cli import options
from blurfast_cli.console import Console
from blurfast_cli.filtering import BatchRules, Order, explain_files, filter_files
from blurfast_cli.pairing import make_directory, pair_files, refuse_collisions, renaming_notes, stray_output
from blurfast_cli.storage import refuse_useless
from blurfast_cli.streams import refuse_misuse

_FilterClass = type[Gaussian | Convolution]
_AnyFilter = TypeVar("_AnyFilter", bound=Gaussian | Convolution)

_TYPES: dict[Any, Any] = {
    float | tuple[float, float]: options.PerAxis(float),
    int | tuple[int, int]: options.PerAxis(int),
    float | None: click.FLOAT,
    ArrayLike: options.Text("FILE|NAME"),
    bool: click.BOOL,
}

# What the help says of a parameter beside its class's docstring, or instead of what that says in terms of Python.
_ADDITIONS = {
    "kernel": "The weights: the path of a .npy, .csv, .txt or .tsv matrix, or of a small .png or .tif image; or one of "
    "the names below.",
    "tolerance": " [default: a 400th of a grey level for integers, 2e-6 for floats, 1e-6 for float64]",
}


def filter_command(
    filter_class: _FilterClass, *, description: str, examples: Iterable[str], glossary: options.Glossary | None = None
) -> click.Command:
    """Return the command that filters files with one class of filters.

    The fields of the class become options, with its docstring's words as their help; the options that all filters
    share join them.
    """
    names = [field.name for field in _parameters(filter_class)]

    def run(paths: Sequence[str], out_dir: str | None, *, explain: bool, as_json: bool, **values: Any) -> None:
        console = Console.current()
        backends = _backends(values["backend"], values.pop("device"))
        values["backend"] = backends[0]
        filter = build_filter(filter_class, {name: values.pop(name) for name in names})
        rules = BatchRules(**{name: values.pop(name) for name in BatchRules._fields})
        limits = Resources.choose(*[values.pop(name) for name in ("threads", "max_memory", "device_memory")])
        jobs = pair_files(paths, out_dir, need_output=not explain)
        if (stray := stray_output(paths, out_dir)) is not None:
            fact = f"{stray} does not exist, and with --out-dir all paths are inputs"
            console.warning(f"{fact}; if it is to be the output, leave --out-dir out")
        if explain:
            for name in ("overwrite", *OutputKeywords.__annotations__):
                del values[name]
            refuse_misuse([job._replace(target=None) for job in jobs], output_format=None, as_json=as_json)
            status = explain_files(jobs, Order(filter, values, limits, backends), rules, console, as_json=as_json)
        else:
            refuse_misuse(jobs, output_format=rules.format, as_json=as_json)
            refuse_useless(jobs, values, rules.format)
            overwrite = values["overwrite"] and not rules.skip_existing
            refuse_collisions(jobs, overwrite=overwrite, manifest=rules.manifest)
            if out_dir is not None:
                make_directory(out_dir)
                for note in renaming_notes(jobs):
                    console.message(f"note: {note}")
            status = filter_files(jobs, Order(filter, values, limits, backends), rules, console, as_json=as_json)
        click.get_current_context().exit(status)

    return options.Command(
        filter_class.name,
        callback=run,
        params=[options.PATHS, *_field_options(filter_class), *options.FILTER_OPTIONS],
        help=description,
        glossary=glossary,
        examples=examples,
    )


def _backends(backend: str, device: str | None) -> list[str]:
    """Return the backends that `--backend` and `--device` ask for together: one for each device."""
    if device is None:
        return [backend]
    if backend == "cpu":
        raise click.BadParameter("the cpu backend has no devices.", param_hint="'--device'")
    return all_gpus() if device == "all" else [f"cuda:{device}"]


def _parameters(filter_class: _FilterClass) -> list[dataclasses.Field[Any]]:
    return [field for field in dataclasses.fields(filter_class) if field.init]


def _field_options(filter_class: _FilterClass) -> list[click.Parameter]:
    types, explanations = typing.get_type_hints(filter_class), _explanations(filter_class)
    return [
        options.Option(
            f"--{field.name.replace('_', '-')}",
            group=options.Group.FILTER,
            type=_TYPES[types[field.name]],
            help=f"{explanations[field.name]} {_ADDITIONS.get(field.name, '')}".strip(),
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


gaussian = filter_command(
    Gaussian,
    description="""Blur image files, or take derivatives of a Gaussian blur.

    Files of any size are streamed through bounded memory. OUT's suffix names its format, and OUT appears when it is
    complete, or not at all. For IN, '-' is stdin; for OUT, it is stdout. Derivatives have negative values, which
    unsigned types cannot hold: give OUT another type with --dtype.""",
    examples=(
        "gaussian photo.png blurred.png --sigma 5",
        "gaussian *.tif --out-dir blurred/ --sigma 5,3 --compression zstd",
        "gaussian *.png --out-dir out/ --sigma 5 --jobs 4 --manifest log.jsonl",
        "gaussian - - --sigma 5 < photo.png > blurred.png",
        "gaussian scan.tif edges.tif --sigma 2 --order 0,1 --dtype float32",
        "gaussian huge.tif part.tif --sigma 5 --region 4096,0,1024,1024",
        "gaussian heights.tif grey.png --sigma 2 --dtype uint8 --scale 0,3000",
        "gaussian huge.tif --sigma 50 --max-memory 512MB --explain",
    ),
)

convolve = filter_command(
    Convolution,
    description="""Convolve image files with a kernel of any size.

    Files of any size are streamed through bounded memory. OUT's suffix names its format, and OUT appears when it is
    complete, or not at all. For IN, '-' is stdin; for OUT, it is stdout.""",
    glossary=("Kernels by name", [(shape.spelling, shape.description) for shape in SHAPES.values()]),
    examples=(
        "convolve photo.png bokeh.png --kernel disk:7",
        "convolve photo.png panned.png --kernel motion:21,30deg",
        "convolve *.tif --out-dir deblurred/ --kernel psf.npy --normalize",
        "convolve huge.tif --kernel psf.npy --explain",
    ),
)
