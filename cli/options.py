"""The options that commands share, each defined once, and the layout of the help that lists them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from typing import Any

import click

from blurfast.boundary import MODES
from blurfast.choices import BACKENDS, METHODS
from blurfast.files import ALPHA_RULES
from blurfast.io.edits import DTYPES, parse_region, parse_scale
from blurfast.io.page_selection import PageSelection
from blurfast.io.png_options import PNG_LEVELS
from blurfast.io.tiff_options import BIGTIFF_RULES, PREDICTORS, parse_tile
from blurfast.resources import parse_memory
from blurfast.transforms import PLANNING_EFFORTS
from blurfast_cli.console import Console


class Group(Enum):
    """The headings under which a command's help lists its options, in this order."""

    FILTER = "Filter options"
    CASES = "What is measured"
    OUTPUT = "Output"
    STORAGE = "TIFF and PNG outputs"
    BATCH = "Several files"
    RESOURCES = "Resources"
    MESSAGES = "Messages"


Glossary = tuple[str, Sequence[tuple[str, str]]]
"""A heading, and under it words with their meanings."""

_NOTES = {
    Group.STORAGE: "Each is for outputs of the format that it names, and leaves others as they are. It is refused if "
    "there are none that it is for."
}


class Option(click.Option):
    """An option that knows its place in the help."""

    def __init__(self, *declarations: str, group: Group, **attributes: Any) -> None:
        super().__init__(declarations, **attributes)
        self.group = group


class Command(click.Command):
    """A command whose help groups its options and ends with examples.

    Parameters
    ----------
    glossary
        Words that options take, told between the options and the examples.
    examples
        Command lines, without the ``blurfast`` that each starts with.
    """

    def __init__(
        self, *arguments: Any, glossary: Glossary | None = None, examples: Iterable[str] = (), **attributes: Any
    ) -> None:
        super().__init__(*arguments, **attributes)
        self._glossary = glossary
        self._examples = tuple(examples)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, heading by heading; those of click itself go to the last."""
        options: dict[Group, list[tuple[str, str]]] = {group: [] for group in Group}
        for parameter in self.get_params(ctx):
            line = parameter.get_help_record(ctx)
            if line is not None and not isinstance(parameter, click.Argument):  # those the usage line shows
                options[parameter.group if isinstance(parameter, Option) else Group.MESSAGES].append(line)
        for group, lines in options.items():
            if lines:
                with formatter.section(group.value):
                    if group in _NOTES:
                        formatter.write_text(_NOTES[group])
                    formatter.write_dl(lines)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the glossary, and the examples, unwrapped so that they can be copied."""
        if self._glossary is not None:
            heading, words = self._glossary
            with formatter.section(heading):
                formatter.write_dl(words)
        if self._examples:
            with formatter.section("Examples"):
                for example in self._examples:
                    formatter.write(f"{'':{formatter.current_indent}}blurfast {example}\n")


class PerAxis(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4 only
    """One number, or one for the vertical and one for the horizontal direction.

    Examples
    --------
    >>> PerAxis(float).convert("5,3", None, None)
    (5.0, 3.0)
    """

    name = "per axis"

    def __init__(self, number: type[int] | type[float]) -> None:
        self._number = number

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number or the pair that `value` spells; defaults are numbers already."""
        if not isinstance(value, str):
            return value
        try:
            numbers = tuple(map(self._number, value.split(",")))
        except ValueError:
            kind = "integer" if self._number is int else "number"
            self.fail(f"{value!r} is not one {kind} or two with a comma between them.", param, ctx)
        if len(numbers) > 2:
            self.fail(f"{value!r} has more than two numbers.", param, ctx)
        return numbers if len(numbers) == 2 else numbers[0]

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        """Return how the help spells a value."""
        return "N[,N]"


class Text(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4 only
    """Any text.

    Parameters
    ----------
    name
        What the text says, as the help spells it.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        """Return how the help spells a value."""
        return self.name


class WholeNumber(click.IntRange):
    """A whole number, from a limit on."""

    name = "whole number"


class Checked(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.4 only
    """Text that a function of blurfast checks.

    Parameters
    ----------
    name
        What the text says, as the help spells it in capitals.
    check
        Returns the value, or raises a `ValueError` whose message is for the user.
    """

    def __init__(self, name: str, check: Callable[[str], Any]) -> None:
        self.name = name
        self._check = check

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return what the check makes of `value`."""
        try:
            return self._check(value)
        except (ValueError, OverflowError) as error:
            self.fail(without_name(str(error), str(param.name) if param else ""), param, ctx)


def without_name(message: str, name: str) -> str:
    """Return an error's message without the name of the argument that it begins with: click names the option.

    Examples
    --------
    >>> without_name("sigma is -1.0; it must be from 0 to 10000", "sigma")
    '-1.0; it must be from 0 to 10000'
    """
    return message.removeprefix(f"{name} is ")


def _check_compression(text: str) -> str:
    from blurfast.io.tiff_codecs import parse_compression  # loads the codecs, which the help does not need

    parse_compression(text)
    return text


def _checked_by(parse: Callable[[str], Any]) -> Callable[[str], str]:
    """Return a check that leaves text as it is: what a manifest lists are the user's words."""

    def check(text: str) -> str:
        parse(text)
        return text

    return check


def _check_png_level(text: str) -> int:
    levels = {str(level): level for level in PNG_LEVELS}
    if text not in levels:
        raise ValueError(f"{text!r} is no level: 0, not compressed, or from 1, fastest, to 9, smallest.")
    return levels[text]


def _check_device(text: str) -> str:
    if text != "all" and not text.isdecimal():
        raise ValueError(f"{text!r} is neither the number of a GPU, such as 0, nor all.")
    return text


def _set_on_console(context: click.Context, option: click.Parameter, value: Any) -> None:
    setattr(context.ensure_object(Console), str(option.name), value)


PATHS = click.Argument(
    ["paths"],
    nargs=-1,
    required=True,
    type=click.Path(),
    metavar="IN OUT | IN... --out-dir DIR",
)

MODE = Option(
    "--mode",
    group=Group.FILTER,
    type=click.Choice(MODES),
    default="reflect",
    show_default=True,
    help="What lies beyond the edges, in scipy's words. Left of an image abcd: reflect dcba, mirror dcb, nearest aaaa, "
    "wrap abcd, constant --cval.",
)
CVAL = Option(
    "--cval",
    group=Group.FILTER,
    type=float,
    default=0.0,
    show_default=True,
    help="The value beyond the edges with --mode constant.",
)
ALPHA = Option(
    "--alpha",
    group=Group.FILTER,
    type=click.Choice(ALPHA_RULES),
    default="weighted",
    show_default=True,
    help="In images with transparency: whether colours count by their opacity, or all channels are filtered alike.",
)
PAGE = Option(
    "--page",
    group=Group.FILTER,
    type=Checked("N[-M][,...]", _checked_by(PageSelection.parse)),
    help="The pages of a TIFF file to filter, counted from 0, such as 0,3-7.  [default: all full-size images]",
)
REGION = Option(
    "--region",
    group=Group.FILTER,
    type=Checked("X,Y,W,H", _checked_by(parse_region)),
    help="The part of each image to filter and write: column, row, width and height in pixels.  [default: all of it]",
)
OUT_DIR = Option(
    "--out-dir",
    group=Group.OUTPUT,
    type=click.Path(),
    metavar="DIR",
    help="Write each output here, under its input's name; all paths are inputs then. Created if missing. TIFF files "
    "with a suffix that no output has, such as .ndpi, become .tif.",
)
OVERWRITE = Option(
    "--overwrite",
    group=Group.OUTPUT,
    is_flag=True,
    help="Replace outputs that exist. OUT may then be IN itself.",
)
DTYPE = Option(
    "--dtype",
    group=Group.OUTPUT,
    type=click.Choice(DTYPES),
    metavar="NAME",
    help=f"Type of the output's samples: {', '.join(DTYPES)}.  [default: the input's]",
)
SCALE = Option(
    "--scale",
    group=Group.OUTPUT,
    type=Checked("scale", _checked_by(parse_scale)),
    metavar="none|full|LOW,HIGH",
    help="How values become those of the output: none, as they are; full, from full range to full range; LOW,HIGH, "
    "from between two numbers to the full range. Floats range from 0 to 1. What is outside is clipped.  "
    "[default: none]",
)
FORMAT = Option(
    "--format",
    group=Group.OUTPUT,
    type=click.Choice(["png", "tiff"]),
    help="Format of the image on stdout, where OUT is '-'.  [default: the input's]",
)
COMPRESSION = Option(
    "--compression",
    group=Group.STORAGE,
    type=Checked("NAME[:LEVEL]", _check_compression),
    help="Compression of TIFF outputs, such as none, deflate or zstd:10.  [default: the input's]",
)
PREDICTOR = Option(
    "--predictor",
    group=Group.STORAGE,
    type=click.Choice(PREDICTORS),
    help="Predictor of TIFF outputs: which differences of samples are compressed.  [default: the input's]",
)
TILE = Option(
    "--tile",
    group=Group.STORAGE,
    type=Checked("tile", parse_tile),
    metavar="ROWSxCOLUMNS|strips",
    help="Size of the tiles of TIFF outputs, such as 256x256, or strips.  [default: the input's]",
)
BIGTIFF = Option(
    "--bigtiff",
    group=Group.STORAGE,
    type=click.Choice(BIGTIFF_RULES),
    default="auto",
    show_default=True,
    help="Whether TIFF outputs are BigTIFFs; auto: where the input is one, the output may need it, or is named .btf, "
    ".tf2 or .tf8.",
)
PYRAMID = Option(
    "--pyramid/--no-pyramid",
    group=Group.STORAGE,
    default=None,
    help="Add smaller versions of each image to TIFF outputs.  [default: as in the input]",
)
COG = Option(
    "--cog/--no-cog",
    group=Group.STORAGE,
    default=None,
    help="Write TIFF outputs as cloud-optimised GeoTIFFs: tiles, smaller versions, directories first.  "
    "[default: as in the input]",
)
PNG_LEVEL = Option(
    "--png-level",
    group=Group.STORAGE,
    type=Checked("N", _check_png_level),
    help="How hard PNG outputs are compressed: 0, not at all; from 1, fastest, to 9, smallest.  [default: 2]",
)
JOBS = Option(
    "--jobs",
    group=Group.BATCH,
    type=WholeNumber(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Files to filter at the same time. They share the threads and the memory.",
)
SKIP_EXISTING = Option(
    "--skip-existing",
    group=Group.BATCH,
    is_flag=True,
    help="Leave outputs that exist as they are; with --manifest only those that it lists as done, from the same input "
    "with the same parameters, and make all others anew.",
)
KEEP_GOING = Option(
    "--keep-going/--fail-fast",
    group=Group.BATCH,
    default=True,
    show_default=True,
    help="Whether to go on with the other files when one has failed.",
)
MANIFEST = Option(
    "--manifest",
    group=Group.BATCH,
    type=click.Path(),
    metavar="FILE",
    help="Add a line of JSON to FILE for each file: what became of it, sizes, time, and a checksum of the output.",
)
BACKEND = Option(
    "--backend",
    group=Group.RESOURCES,
    type=click.Choice(BACKENDS),
    default="auto",
    show_default=True,
    help="What computes: the processor, an NVIDIA GPU, or whichever is predicted to be faster.",
)
DEVICE = Option(
    "--device",
    group=Group.RESOURCES,
    type=Checked("device", _check_device),
    metavar="N|all",
    help="The GPU that the cuda backend uses, or all: the files are spread over them.  [default: the first]",
)
DEVICE_MEMORY = Option(
    "--device-memory",
    group=Group.RESOURCES,
    type=Checked("SIZE", functools.partial(parse_memory, argument="device_memory")),
    help="Limit of a GPU's memory that is used, such as 4GB.  [default: what is free there]",
)
METHOD = Option(
    "--method",
    group=Group.RESOURCES,
    type=click.Choice(METHODS),
    default="auto",
    show_default=True,
    help="How it is computed. --explain tells what auto chooses, and why.",
)
FFT_PLANNING = Option(
    "--fft-planning",
    group=Group.RESOURCES,
    type=click.Choice(PLANNING_EFFORTS),
    default="measure",
    show_default=True,
    help="How long FFTW may plan transforms of a new size: not at all, a second, or a minute. Its plans are kept.",
)
THREADS = Option(
    "--threads",
    group=Group.RESOURCES,
    type=WholeNumber(min=1),
    metavar="N",
    help="Threads that compute, decode and encode.  [default: one for each processor]",
)
MAX_MEMORY = Option(
    "--max-memory",
    group=Group.RESOURCES,
    type=Checked("SIZE", parse_memory),
    help="Limit of the whole process's memory, such as 512MB or 2GiB.  "
    "[default: a quarter of what is available, at least 256MB]",
)
EXPLAIN = Option(
    "--explain",
    group=Group.MESSAGES,
    is_flag=True,
    help="Print how each input would be filtered, and why so, and filter nothing. OUT may be left out.",
)
JSON = Option(
    "--json",
    "as_json",
    group=Group.MESSAGES,
    is_flag=True,
    help="Print results on stdout as JSON, one object per file and line.",
)
QUIET = Option(
    "--quiet",
    group=Group.MESSAGES,
    is_flag=True,
    expose_value=False,
    callback=_set_on_console,
    help="Print no progress and no messages but errors and warnings.",
)
DEBUG = Option(
    "--debug",
    group=Group.MESSAGES,
    is_flag=True,
    envvar="BLURFAST_DEBUG",
    show_envvar=True,
    expose_value=False,
    callback=_set_on_console,
    help="Print a traceback with each error.",
)

FILTER_OPTIONS = (
    *(MODE, CVAL, ALPHA, PAGE, REGION),
    *(OUT_DIR, OVERWRITE, DTYPE, SCALE, FORMAT),
    *(COMPRESSION, PREDICTOR, TILE, BIGTIFF, PYRAMID, COG, PNG_LEVEL),
    *(JOBS, SKIP_EXISTING, KEEP_GOING, MANIFEST),
    *(BACKEND, DEVICE, DEVICE_MEMORY, METHOD, FFT_PLANNING, THREADS, MAX_MEMORY),
    *(EXPLAIN, JSON, QUIET, DEBUG),
)
"""What every command that filters files takes beside the parameters of its filter."""
