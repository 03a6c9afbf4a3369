"""Options of how outputs are stored: each is for outputs of one format, of which a batch may have several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from blurfast.io.output_options import PNG_KEYWORDS
from blurfast.io.registry import unsuitable_options
from blurfast_cli.batch import STREAM, Job
from blurfast_cli.streams import SUFFIXES


def refuse_useless(jobs: Sequence[Job], settings: Mapping[str, Any], output_format: str | None) -> None:
    """Refuse options that are for none of the outputs, before anything is read.

    Parameters
    ----------
    settings
        What ``filter_file`` takes, by name.
    output_format
        Of an image on stdout, if it is chosen.

    Raises
    ------
    click.UsageError
        If there is such an option.
    """
    useless = frozenset.intersection(*(_unsuitable(job, settings, output_format) for job in jobs))
    for name in sorted(useless):
        format_name = "PNG" if name in PNG_KEYWORDS else "TIFF"
        fact = f"--{name.replace('_', '-')} is for {format_name} outputs, and there are none; leave it out"
        raise click.UsageError(fact, click.get_current_context())


def suitable_settings(job: Job, settings: Mapping[str, Any], output_format: str | None) -> dict[str, Any]:
    """Return the settings for one output: as if nothing were asked for that is for other formats."""
    return {**settings, **dict.fromkeys(_unsuitable(job, settings, output_format))}


def _unsuitable(job: Job, settings: Mapping[str, Any], output_format: str | None) -> frozenset[str]:
    """Return the names of the options that are for outputs of another format; none if that is not known yet."""
    assert job.target is not None
    if job.target != STREAM:
        return unsuitable_options(job.target, settings)
    return frozenset() if output_format is None else unsuitable_options(f"image{SUFFIXES[output_format]}", settings)
