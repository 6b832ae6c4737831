"""``fanout completion``: the script that completes commands and options in a shell."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

_EXAMPLES = """
\b
Examples:
  1. In every bash:
       fanout completion bash >> ~/.bashrc
  2. In every zsh, fish:
       fanout completion zsh > ~/.zfunc/_fanout
       fanout completion fish > ~/.config/fish/completions/fanout.fish
"""


@click.command(epilog=_EXAMPLES, short_help="Print a script that completes commands in a shell.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the completion script of SHELL: bash, zsh or fish."""
    made = get_completion_class(shell)
    assert made is not None
    root = ctx.find_root()
    click.echo(made(root.command, {}, "fanout", "_FANOUT_COMPLETE").source())
