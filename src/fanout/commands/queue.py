"""A run over a queue: what it refuses, the queue's client, and the intake with all that works beside it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import msgspec

from fanout.aws import AwsSession
from fanout.commands.options import RunOptions
from fanout.errors import ConfigError, JournalError
from fanout.journal import Replay
from fanout.queues import parse_queue
from fanout.queues.client import SqsClient
from fanout.queues.hold import Hold
from fanout.queues.spool import MessageSpool, count_messages
from fanout.runs.queue_intake import EMPTY_AFTER_S, QueueIntake
from fanout.runs.queue_records import Settled


def check_queue_run(location: str, options: RunOptions) -> None:
    """Raise ConfigError for options that cannot hold where the input is a queue."""
    parse_queue(location)
    if options.calls.invocation_type == "DryRun":
        raise ConfigError(
            f"{location} is a queue: a DryRun runs nothing, and its messages would be deleted as done"
        )
    if options.fsync == "never":
        raise ConfigError(
            f"{location}: messages are deleted once their line is on the disk: --fsync never cannot be"
        )
    if options.uses_workers:
        raise ConfigError(f"{location} is a queue: workers cannot share one yet: leave workers out")
    if options.format not in (None, "lines"):
        raise ConfigError(f"format is {options.format!r}: messages are JSON, or with format lines text")
    for name in ("items", "csv_delimiter", "csv_header", "encoding", "request_payer"):
        if getattr(options, name):
            raise ConfigError(f"{location} is a queue, whose messages are JSON or text: leave {name} out")
    if options.nan != "reject":
        raise ConfigError(f"{location} is a queue, and nan is for Parquet: leave nan out")
    if not options.spool:
        raise ConfigError(f"{location} is a queue: what was read of it is always kept, so no_spool cannot be")


@asynccontextmanager
async def open_queue(location: str, options: RunOptions, *, deletes: bool = True) -> AsyncIterator[SqsClient]:
    """The client of a queue, after a look at what is allowed. Raises ConfigError or FatalRefusal."""
    session = AwsSession(
        function=options.function,
        profile=options.calls.profile,
        region=options.calls.region,
        verify=options.calls.verify,
    )
    async with session:
        client = await SqsClient.open(session, parse_queue(location))
        try:
            await client.check_access(deletes=deletes)
            yield client
        finally:
            await client.aclose()


def noted_messages(directory: Path, known: Replay) -> int:
    """The number of messages of a run that have a seq, by its spool and by its journal."""
    return max(count_messages(directory), known.finished.max + 1)


def settled_with(settled: Settled, known: Replay, noted: int, *, skips_suspects: bool) -> Settled:
    """The knowledge that the journal has of the first ``noted`` records, with those that may have run."""
    may_have_run = _MayHaveRun(known, noted)
    suspects = may_have_run if skips_suspects else ()
    return msgspec.structs.replace(settled, may_have_run=may_have_run, suspects=suspects)


class _MayHaveRun:
    """Records that may have run before the run was cut off."""

    def __init__(self, known: Replay, noted: int) -> None:
        self._known = known
        self._noted = noted

    def __contains__(self, seq: object) -> bool:
        return isinstance(seq, int) and seq < self._noted and self._known.may_have_run(seq)


@asynccontextmanager
async def queue_intake(
    client: SqsClient,
    directory: Path,
    options: RunOptions,
    *,
    say: Callable[[str], None],
    settled: Settled | None = None,
    at_least: int = 0,
) -> AsyncIterator[QueueIntake]:
    """The intake, served while the block runs; afterwards messages are deleted or given back.

    In the shape ``sqs`` messages go on as in the event of the queue's own trigger. Raises JournalError.
    """
    clock = anyio.current_time
    spool = await anyio.to_thread.run_sync(lambda: MessageSpool(directory, at_least=at_least))
    try:
        hold = Hold(client, clock)
        intake = QueueIntake(
            client,
            hold,
            spool,
            clock=clock,
            selector=options.selector(),
            take=options.take,
            follow=options.follow,
            empty_after_s=EMPTY_AFTER_S if options.empty_after is None else options.empty_after,
            as_event=options.calls.batch_shape == "sqs",
            is_text=options.format == "lines",
            syncs_spool=options.fsync == "always",
            settled=settled,
        )
        failure: BaseException | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(intake.serve)
            try:
                yield intake
            except BaseException as error:  # noqa: BLE001 - raised again, not in a group
                failure = error
            with anyio.CancelScope(shield=True):
                left = await intake.finish()
            tasks.cancel_scope.cancel()
        if failure is not None:
            raise failure
        if hold.failure is not None:
            say(f"{hold.failure}: what is done may still be in the queue; a resume deletes it")
        if left:
            say(f"{left:,} messages stay in {client}")
    finally:
        try:
            await anyio.to_thread.run_sync(spool.sync)
        except JournalError as error:
            say(str(error))
        spool.close()
