"""The command that prints scripts for shells, which click makes."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from blurfast_cli import options
from blurfast_cli.console import Console

_INSTRUCTION_VARIABLE = "_BLURFAST_COMPLETE"


@click.command(
    cls=options.Command,
    params=[click.Argument(["shell"], type=click.Choice(["bash", "zsh", "fish"]))],
    examples=(
        "completion bash > ~/.local/share/bash-completion/completions/blurfast",
        "completion zsh > ~/.zfunc/_blurfast",
        "completion fish > ~/.config/fish/completions/blurfast.fish",
    ),
)
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that teaches a shell to complete commands."""
    completion_class = get_completion_class(shell)
    assert completion_class is not None
    script = completion_class(context.find_root().command, {}, "blurfast", _INSTRUCTION_VARIABLE)
    Console.current().result(script.source().strip())
