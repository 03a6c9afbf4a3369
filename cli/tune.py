"""The command that measures what the choice of a method rests on."""

from __future__ import annotations

import dataclasses
import json

import click

from blurfast_cli import options
from blurfast_cli.console import Console

_JSON = options.Option(
    "--json", "as_json", group=options.Group.MESSAGES, is_flag=True, help="Print the figures on stdout as JSON."
)


@click.command(cls=options.Command, params=[_JSON, options.QUIET, options.DEBUG], examples=("tune", "tune --json"))
def tune(*, as_json: bool) -> None:
    """Measure this machine, so that the fastest method is chosen on it.

    The figures are nanoseconds of one core. They are kept in the user's cache directory, or where BLURFAST_CACHE_DIR
    says. This takes some seconds; other work on the machine disturbs the result.
    """
    from blurfast import costs
    from blurfast.tuning import measure_costs

    figures = measure_costs()
    path = costs.save(figures)
    record = dataclasses.asdict(figures)
    if as_json:
        click.echo(json.dumps(record))
    else:
        defaults = dataclasses.asdict(costs.DEFAULTS)
        for name, value in record.items():
            click.echo(f"{name:<16} {value:.3g} ns   (built in: {defaults[name]:.3g})")
    Console.current().message(f"kept in {path}")
