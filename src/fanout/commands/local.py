"""A function on this machine for one run: an emulator that lives as long as the run does."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from msgspec.structs import replace

from fanout.aws import LOCAL_KEYS
from fanout.commands.options import RunOptions
from fanout.errors import ConfigError

LOCAL_REGION = "us-east-1"
_HANDLERS_KEYS = dict(zip(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), LOCAL_KEYS, strict=True))
_HIDDEN = (
    "AWS_SESSION_TOKEN",
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_ROLE_ARN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_LAMBDA",
)


@contextmanager
def local_function(options: RunOptions) -> Iterator[RunOptions]:
    """Start the emulator that ``--local`` asks for; yields the options, changed to lead calls to it.

    Without ``--local`` nothing happens. Credentials of the user reach neither the emulator nor the
    handler, which finds keys that open nothing; S3 and SQS are reached with them, as in any run. Raises
    EmulatorError, in one line, when the handler cannot be started.
    """
    if options.local is None:
        yield options
        return
    if options.calls.endpoint_url is not None:
        raise ConfigError("local and endpoint_url are both given: choose one")
    from fanout.emulator import EmulatorProcess

    name = options.function.rpartition("function:")[2].partition(":")[0]
    emulator = EmulatorProcess(
        handler=options.local,
        name=name,
        concurrency=options.local_concurrency,
        timeout_s=options.local_timeout,
        env={name: value for name, value in os.environ.items() if name not in _HIDDEN} | _HANDLERS_KEYS,
    )
    emulator.start()
    try:
        yield replace(
            options,
            calls=replace(
                options.calls,
                endpoint_url=emulator.endpoint_url,
                region=LOCAL_REGION,
                profile=None,
                is_local=True,
            ),
        )
    finally:
        emulator.stop()
