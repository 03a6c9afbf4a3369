"""The command that answers what a convolution by transforms would take, on the CPU and on a GPU of a given memory."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import click

from blurfast.files import plan_file
from blurfast.filters import Convolution
from blurfast.methods import FftMethod
from blurfast.planning import Plan
from blurfast.resources import format_memory, parse_memory
from blurfast.transforms import Transform, largest_transform
from blurfast_cli import options
from blurfast_cli.batch import Job, Outcome, run_batch
from blurfast_cli.console import Console
from blurfast_cli.filters import build_filter
from blurfast_cli.pairing import list_inputs
from blurfast_cli.streams import file_of, refuse_misuse

# cuFFT takes a work area of about the size of a spectrum.
_CUFFT_WORK_SPECTRA = 1

_KERNEL = options.Option(
    "--kernel",
    group=options.Group.FILTER,
    type=options.Text("FILE|NAME"),
    required=True,
    help="A file or a name, as for 'convolve'.",
)
_DEVICE_MEMORY = options.Option(
    "--device-memory",
    group=options.Group.RESOURCES,
    type=options.Checked("SIZE", parse_memory),
    help="The memory of a GPU, such as 8GB, to be planned for as well.",
)


@click.command(
    cls=options.Command,
    params=[
        click.Argument(["paths"], nargs=-1, required=True, type=click.Path(), metavar="FILE..."),
        *(_KERNEL, options.THREADS, options.MAX_MEMORY, _DEVICE_MEMORY),
        *(options.JSON, options.QUIET, options.DEBUG),
    ],
    examples=(
        "plan scan.tif --kernel psf.npy --max-memory 512MB",
        "plan scan.tif --kernel disk:40 --device-memory 8GB",
    ),
)
@click.pass_context
def plan(
    context: click.Context,
    /,
    paths: Sequence[str],
    kernel: str,
    device_memory: int | None,
    as_json: bool,
    **limits: Any,
) -> None:
    """Show what convolving image files by transforms would take.

    For the CPU, and with --device-memory for a GPU (from a model; none is used): the transform that is best for the
    first image, its buffers, the tile that it yields and the share of its points that is lost to the overlap, and the
    largest transform that fits into the memory. For FILE, '-' is stdin.
    """
    filter = build_filter(Convolution, {"kernel": kernel})
    jobs = list_inputs(paths)
    refuse_misuse(jobs, output_format=None, as_json=as_json)
    describe = functools.partial(_describe, filter, device_memory, limits)
    context.exit(run_batch(jobs, describe, Console.current(), as_json=as_json))


def _describe(filter: Convolution, device_memory: int | None, limits: dict[str, Any], job: Job) -> Outcome:
    with file_of(job.source) as path:
        planned = plan_file(path, filter, method="fft", alpha="independent", **limits)[0]
    assert planned.budget is not None
    records = {"cpu": _record(planned, planned.budget, 0)}
    if device_memory is not None:
        records["gpu"] = _record(planned, device_memory, _CUFFT_WORK_SPECTRA)
    records["cpu"]["predicted_peak"] = planned.predicted_memory
    lines = [job.source_name]
    for device, record in records.items():
        lines += [f"  {device}", *(f"    {name:<22} {_spelled(value)}" for name, value in record.items())]
    return Outcome(records, "\n".join(lines))


def _record(planned: Plan, memory: int, work_spectra: int) -> dict[str, Any]:
    """Return the transform that is chosen, and the largest one for a memory, as plain data."""
    chosen = _transform(planned)
    largest = largest_transform(
        (chosen.kernel_rows, chosen.kernel_columns), chosen.channels, chosen.itemsize, memory, work_spectra
    )
    buffers = {**chosen.buffers, "kernel_spectrum": chosen.spectrum_bytes}
    if work_spectra:
        buffers["work_area"] = work_spectra * chosen.spectrum_bytes
    return {
        "memory": memory,
        "transform": [chosen.rows, chosen.columns],
        **{f"{name}_bytes": count for name, count in buffers.items()},
        "tile": list(chosen.tile),
        "overlap": [chosen.kernel_rows - 1, chosen.kernel_columns - 1],
        "lost_share": round(chosen.lost_share, 4),
        "largest_transform": [largest.rows, largest.columns] if largest else None,
    }


def _transform(planned: Plan) -> Transform:
    operation = planned.operation
    assert isinstance(operation, FftMethod)
    assert planned.tile is not None
    return operation.transform_of(planned.tile)


def _spelled(value: Any) -> str:
    match value:
        case [rows, columns]:
            return f"{rows} x {columns}"
        case int():
            return format_memory(value)
        case float():
            return f"{value:.1%}"
        case _:
            return "none fits"
