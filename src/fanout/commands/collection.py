"""A collection of results: what is asked of it, what stops it, and the journal that it writes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import anyio

from fanout.errors import ConfigError
from fanout.journal import Journal
from fanout.queues import is_queue, parse_queue


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """The request for a collection. ``queues``: locations; none: those of the function's configuration."""

    queues: Sequence[str] = ()
    wait_s: float | None = None
    allow_strangers: bool = False
    profile: str | None = None
    region: str | None = None
    endpoint_url: str | None = None
    outputs: bool = False  # of durable executions: ask for what each returned

    def __post_init__(self) -> None:
        for location in self.queues:
            if not is_queue(location):
                raise ConfigError(f"--from is {location!r}: give sqs://NAME, an ARN or a URL after sqs://")
            parse_queue(location)
        if self.wait_s is not None and not self.wait_s >= 0:
            raise ConfigError(f"wait is {self.wait_s!r}: give seconds from 0")


class CollectionStop:
    """Stops a collection soon, at a signal; it can be begun again. ``reason`` is the first one."""

    draining = "the collection ends; what has come is kept, and another goes on"

    def __init__(self) -> None:
        self.is_stopping = False
        self.reason: str | None = None

    def stop(self, reason: str, message: str = "") -> None:  # noqa: ARG002 - as a run's
        self.is_stopping = True
        self.reason = self.reason or reason

    def cut(self) -> None:
        self.is_stopping = True

    def tune(self, changes: Mapping[str, Any]) -> Mapping[str, Any]:  # noqa: ARG002 - as a run's
        raise ConfigError("the run has ended, and its results are collected: nothing can be changed")


async def journaled(journal: Journal, work: Callable[[], Awaitable[None]]) -> Exception | None:
    """Do the work while the journal writes, then close the journal; returns what went wrong."""
    failure: Exception | None = None
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(journal.run)
            try:
                await work()
            except Exception as error:  # noqa: BLE001 - returned, not raised in a group
                failure = error
            tasks.cancel_scope.cancel()
    finally:
        await journal.aclose()
    return failure or journal.failure
