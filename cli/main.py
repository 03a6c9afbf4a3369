"""The program `blurfast`: finds the command, runs it, and turns whatever happens into an exit status."""

from __future__ import annotations

import atexit
import gc
import importlib
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any, NamedTuple

import click

from blurfast._version import __version__
from blurfast_cli.console import Console
from blurfast_cli.failures import Failure, attempt
from blurfast_cli.interrupts import Stopped, stopping_on_signals


class LazyCommand(NamedTuple):
    """A command that is imported when it is needed: its module, and the line that lists it."""

    module: str
    summary: str


COMMANDS = {
    "gaussian": LazyCommand("filters", "Blur image files, or take derivatives of a Gaussian blur."),
    "convolve": LazyCommand("filters", "Convolve image files with a kernel of any size."),
    "plan": LazyCommand("plan", "Show what convolving image files by transforms would take."),
    "info": LazyCommand("info", "Show what image files are, and what filtering them would take."),
    "bench": LazyCommand("bench", "Measure blurfast beside other libraries, and report it."),
    "tune": LazyCommand("tune", "Measure this machine, so that the fastest method is chosen on it."),
    "warmup": LazyCommand("warmup", "Compile all kernels now, not at their first use."),
    "completion": LazyCommand("completion", "Print the script that teaches a shell to complete commands."),
}


class _Program(click.Group):
    """The group of all commands. Listing them imports none."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands' names, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(_imported(f"blurfast_cli.{COMMANDS[cmd_name].module}"), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.summary) for name, command in COMMANDS.items()])


@click.group(
    cls=_Program,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="""\b
    Exit status:
      0    all done
      1    some of several files failed
      2    wrong usage; or OUT exists, or its folder does not
      3    unreadable input
      4    not supported
      5    out of memory or disk, or OUT may not be written
      70   internal error
      130  interrupted (by SIGTERM: 143)
      141  nobody reads the output any more""",
)
@click.version_option(__version__, prog_name="blurfast", message="%(prog)s %(version)s")
@click.pass_context
def blurfast(context: click.Context) -> None:
    """Filter images of any size, fast and exactly.

    TIFF and PNG files are streamed through bounded memory. 'blurfast COMMAND --help' tells more of each command.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help(), err=True)
        context.exit(2)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    Parameters
    ----------
    arguments
        What follows the program's name; by default, what the process was started with.
    """
    atexit.register(gc.freeze)  # the search for garbage at exit takes 30 ms, and all memory is given back anyway
    console = Console()
    try:
        with stopping_on_signals(), console.showing_log():
            result = attempt(lambda: _run(arguments, console))
            if isinstance(result, Failure):
                console.failure(result)
                return result.exit_status
            return result
    except Stopped as stop:
        console.stopped(stop)
        return stop.exit_status


def _imported(name: str) -> ModuleType:
    """Import a module for good: Python need not look for garbage in it, which takes 10 ms now and as long later."""
    if name not in sys.modules:
        was_enabled = gc.isenabled()
        gc.disable()
        try:
            importlib.import_module(name)
        finally:
            gc.freeze()
            if was_enabled:
                gc.enable()
    return sys.modules[name]


def _run(arguments: Sequence[str] | None, console: Console) -> int:
    status: Any = blurfast.main(arguments, prog_name="blurfast", standalone_mode=False, obj=console)
    return status or 0


if __name__ == "__main__":
    sys.exit(main())
