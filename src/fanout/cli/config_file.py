"""``--config FILE.toml``: option values from a file, below the command line and the environment.

Keys are the long options without the dashes in front; what an option takes on the command line, its
key takes as a string, number, boolean or (of repeatable options) list.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import click


def add_config_option(command: click.Command) -> click.Command:
    """Give a command the option ``--config``, read before all others. Harmless the second time."""
    if any(param.name == "config" for param in command.params):
        return command
    command.params.append(
        click.Option(
            ["--config"],
            type=click.Path(dir_okay=False, path_type=Path),
            metavar="FILE.toml",
            is_eager=True,
            expose_value=False,
            callback=_read,
            help="Take option values from FILE; the command line and the environment win.",
        )
    )
    return command


def _read(ctx: click.Context, param: click.Parameter, value: Path | None) -> None:  # noqa: ARG001
    if value is None or ctx.resilient_parsing:
        return
    try:
        found = tomllib.loads(value.read_text(encoding="utf-8"))
    except OSError as error:
        raise click.UsageError(f"--config {value} cannot be read: {error.strerror}", ctx) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise click.UsageError(f"--config {value} is not valid TOML: {error}", ctx) from error
    names = _option_names(ctx.command)
    values: dict[str, Any] = {}
    for key, given in found.items():
        if key not in names:
            raise click.UsageError(
                f"--config {value}: {ctx.command_path} has no option --{key}: see its --help", ctx
            )
        if isinstance(given, dict):
            raise click.UsageError(f"--config {value}: {key} is a table: give a value", ctx)
        values[names[key]] = given
    ctx.default_map = {**values}


def _option_names(command: click.Command) -> dict[str, str]:
    return {
        flag.removeprefix("--"): str(param.name)
        for param in command.params
        if isinstance(param, click.Option) and param.name != "config"
        for flag in param.opts
        if flag.startswith("--")
    }
