"""The location of a queue: a name, ``account/name``, an ARN or a queue URL behind ``sqs://``."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import msgspec

from fanout.errors import ConfigError

SCHEME = "sqs://"
_NAME = re.compile(r"[A-Za-z0-9_-]{1,80}(\.fifo)?")
_ACCOUNT = re.compile(r"\d{12}")
_ARN = re.compile(r"arn:[a-z-]+:sqs:([a-z0-9-]+):(\d{12}):([^:/]+)")
_HOST = re.compile(r"(?:sqs\.([a-z0-9-]+)|([a-z0-9-]+)\.queue)\.(?:amazonaws|api\.aws|amazonaws\.com)[a-z.]*")
_ALLOWED = "sqs://NAME, sqs://ACCOUNT/NAME, sqs://ARN or sqs://URL of a standard queue"


class QueueLocation(msgspec.Struct, frozen=True):
    """A queue as it was given. What is None follows from the session: Region, account, URL."""

    text: str
    name: str
    account: str | None = None
    region: str | None = None
    url: str | None = None


def is_queue(location: object) -> bool:
    """True for the location of a queue."""
    return isinstance(location, str) and location.startswith(SCHEME)


def parse_queue(location: str) -> QueueLocation:
    """Read a location that begins with ``sqs://``. Raises ConfigError, for FIFO queues too."""
    rest = location.removeprefix(SCHEME)
    if rest.startswith("arn:"):
        found = _ARN.fullmatch(rest)
        if found is None:
            raise _refusal(location)
        queue = QueueLocation(location, found[3], account=found[2], region=found[1])
    elif rest.startswith(("http://", "https://")):
        queue = _of_url(location, rest)
    else:
        account, _, name = rest.rpartition("/")
        if account and not _ACCOUNT.fullmatch(account):
            raise _refusal(location)
        queue = QueueLocation(location, name, account=account or None)
    if not _NAME.fullmatch(queue.name):
        raise _refusal(location)
    if queue.name.endswith(".fifo"):
        raise ConfigError(f"{location} is a FIFO queue: only standard queues can be an input for now")
    return queue


def _of_url(location: str, url: str) -> QueueLocation:
    try:
        parts = urlsplit(url)
    except ValueError:  # an address that is none
        raise _refusal(location) from None
    path = parts.path.strip("/").split("/")
    if not parts.hostname or len(path) != 2 or parts.username is not None or parts.query:
        raise _refusal(location)
    found = _HOST.fullmatch(parts.hostname)
    region = None if found is None else found[1] or found[2]
    return QueueLocation(location, path[1], account=path[0], region=region, url=url)


def _refusal(location: str) -> ConfigError:
    return ConfigError(f"{location!r} names no queue: give {_ALLOWED}")
