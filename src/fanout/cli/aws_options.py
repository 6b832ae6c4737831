"""The options that name the account, as in the AWS CLI: ``--profile``, ``--region``, ``--endpoint-url``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

_Command = TypeVar("_Command", bound=Callable[..., Any])


def aws_options(command: _Command) -> _Command:
    """Add the three options; the command receives ``profile``, ``region`` and ``endpoint_url``."""
    for option in (
        click.option(
            "--endpoint-url",
            metavar="URL",
            help="Where Lambda answers: an emulator, a VPC endpoint.",
        ),
        click.option("--region", metavar="NAME", help="The function's Region; a full ARN names its own."),
        click.option("--profile", metavar="NAME", help="A profile of the AWS configuration files."),
    ):
        command = option(command)
    return command
