"""The verb ``collect``: the outcomes of a run's Event calls, from destinations and dead-letter queues."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import anyio

from fanout.aws import AwsSession
from fanout.commands.collect_executions import ExecutionCollector, collect_executions
from fanout.commands.options import RunOptions, options_of
from fanout.commands.results import Completion
from fanout.commands.run_state import counts_of, write_page
from fanout.errors import ConfigError, TransportError
from fanout.function_name import split_qualifier
from fanout.journal import OUTCOMES_FILE, Journal, RunDir, replay
from fanout.model import Outcome
from fanout.queues import is_queue, parse_queue
from fanout.queues.accepted import AcceptedCalls
from fanout.queues.client import SqsClient
from fanout.queues.collector import Collector, Counts
from fanout.queues.event_config import EventConfig, read_event_config
from fanout.report.summary import RunReport
from fanout.runs.audience import Audience
from fanout.runs.result import ending
from fanout.transports.control import ControlClient, ControlRefusal, path_part
from fanout.transports.signed_http import SignedHttp

_SAY_EVERY_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """What is asked of a collection. ``queues``: locations; none: those of the function's configuration."""

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


class Sources:
    """The queues that results come from, open, and what the function's configuration says of them."""

    def __init__(self, queues: list[SqsClient], config: EventConfig, session: AwsSession) -> None:
        self.session = session  # of Lambda
        self.queues = queues
        self.config = config

    @property
    def carries_successes(self) -> bool:
        """Whether successes are known to reach one of the queues."""
        return self.config.carries_successes([queue.arn for queue in self.queues])


async def open_sources(
    stack: AsyncExitStack,
    asked: Collection,
    options: RunOptions,
    audience: Audience,
) -> Sources:
    """Open the queues and say what can be known before the first call. Raises ConfigError, FatalRefusal."""
    function, calls = options.function, options.calls
    profile, region = asked.profile or calls.profile, asked.region or calls.region
    lambda_session = await stack.enter_async_context(
        AwsSession(
            function=function,
            profile=profile,
            region=region,
            endpoint_url=asked.endpoint_url or calls.endpoint_url,
            verify=calls.verify,
        )
    )
    if options.durable and not asked.queues:  # its executions say it themselves
        return Sources([], EventConfig(), lambda_session)
    config = await _read_config(lambda_session, function, calls.qualifier)
    locations = list(asked.queues) or config.queues
    if not locations:
        raise ConfigError(_no_queue(function, config))
    session = await stack.enter_async_context(
        AwsSession(function=function, profile=profile, region=region, verify=calls.verify)
    )
    queues = []
    for location in locations:
        client = await SqsClient.open(session, parse_queue(location))
        stack.push_async_callback(client.aclose)
        await client.check_access()
        queues.append(client)
    sources = Sources(queues, config, lambda_session)
    names = ", ".join(str(queue) for queue in queues)
    if not config.is_read:
        audience.say(f"the destinations of {function} cannot be read; results are taken from {names}")
    elif not sources.carries_successes:
        audience.say(f"no successes go to {names}: records without a failure there stay accepted")
    return sources


async def collect(path: Path, asked: Collection, audience: Audience) -> RunReport:
    """Collect the results of a run that has ended. Raises as ``resume`` does."""
    run_dir = RunDir.open(path)
    with run_dir.lock():
        options = options_of(run_dir.state)
        if options.calls.invocation_type != "Event":
            raise ConfigError(f"{path} made no Event calls: there is nothing to collect")
        async with AsyncExitStack() as stack:
            sources = await open_sources(stack, asked, options, audience)
            return await collect_into(run_dir, options, sources, asked, audience)


async def sources_of(
    stack: AsyncExitStack, options: RunOptions, *, out: Path | None, audience: Audience
) -> Sources | None:
    """What a run that collects needs to have found before its first call; None for any other run."""
    if not options.collect:
        return None
    if options.calls.invocation_type != "Event":
        raise ConfigError(
            "collect goes with invocation_type Event: other calls bring their results themselves"
        )
    if out is None:
        raise ConfigError("collect needs a run directory: give --out DIR")
    return await open_sources(stack, Collection(), options, audience)


async def collected(
    report: RunReport,
    run_dir: RunDir | None,
    options: RunOptions,
    sources: Sources | None,
    audience: Audience,
) -> RunReport:
    """The report of a run after the collection that it asked for, if it has come to its end."""
    if sources is None or run_dir is None or run_dir.state.get("state") != "finished":
        return report
    return await collect_into(run_dir, options, sources, Collection(), audience)


async def collect_into(
    run_dir: RunDir, options: RunOptions, sources: Sources, asked: Collection, audience: Audience
) -> RunReport:
    """Collect into a run directory whose lock the caller holds; the journal is closed."""
    path = run_dir.path
    if not sources.queues:
        return await _collect_executions(run_dir, options, sources, asked, audience)
    calls = await anyio.to_thread.run_sync(AcceptedCalls, path / OUTCOMES_FILE)
    stop = _Stop()
    detach = None if audience.attach is None else audience.attach(stop)
    failure: Exception | None = None
    try:
        said = _Said(audience)
        sink = _Sink()
        collector = Collector(
            sources.queues,
            calls,
            sink,
            complete=Completion(options.calls),
            carries_successes=sources.carries_successes,
            allow_strangers=asked.allow_strangers,
            on_progress=said.on_progress,
        )
        stop.collector = collector
        collector.deadline_s = time.monotonic() + await anyio.to_thread.run_sync(
            _wait_s, calls, sources.config, asked.wait_s
        )
        journal = await Journal.open(
            path, generation=int(run_dir.state.get("generation", 0)), sync_listener=collector
        )
        sink.journal = journal
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(journal.run)
                try:
                    await collector.run()
                except Exception as error:  # noqa: BLE001 - raised below, not in a group
                    failure = error
                tasks.cancel_scope.cancel()
        finally:
            await journal.aclose()
            with anyio.CancelScope(shield=True):
                failure = await collector.finish() or failure
        said.at_the_end(collector)
        failure = failure or journal.failure
    finally:
        calls.close()
        if detach is not None:
            detach()
    report = await _report(run_dir, audience)
    if failure is not None:
        raise failure
    return report


async def _collect_executions(
    run_dir: RunDir, options: RunOptions, sources: Sources, asked: Collection, audience: Audience
) -> RunReport:
    stop = _Stop()
    detach = None if audience.attach is None else audience.attach(stop)

    def on_made(collector: ExecutionCollector) -> None:
        stop.collector = collector

    try:
        await collect_executions(
            run_dir,
            sources.session,
            function=options.function,
            qualifier=options.calls.qualifier,
            with_outputs=asked.outputs,
            wait_s=asked.wait_s,
            say=audience.say,
            on_made=on_made,
        )
    finally:
        if detach is not None:
            detach()
    return await _report(run_dir, audience)


async def _report(run_dir: RunDir, audience: Audience) -> RunReport:
    """The report of the run as it is now, and its page."""
    report = await anyio.to_thread.run_sync(_settle, run_dir)
    problem = write_page(report)
    if problem is not None:
        audience.say(problem)
    return report


async def _read_config(session: AwsSession, function: str, qualifier: str | None) -> EventConfig:
    """The event configuration for the run's qualifier; what is denied is not known."""
    name, qualifier = split_qualifier(function, qualifier)
    query = {"Qualifier": qualifier} if qualifier else {}
    part = path_part(name)
    replies: list[dict[str, Any] | None] = []
    is_read = True
    http = await SignedHttp.open(session)
    try:
        control = ControlClient(http)
        for path in (f"/2015-03-31/functions/{part}", f"/2019-09-25/functions/{part}/event-invoke-config"):
            try:
                replies.append(await control.get(path, query))
            except ControlRefusal as refusal:
                replies.append(None)
                has_none = refusal.code == "ResourceNotFoundException" and path.endswith("config")
                is_read = is_read and has_none
            except (TransportError, OSError):
                replies.append(None)
                is_read = False
    finally:
        await http.aclose()
    return read_event_config(replies[0], replies[1], is_read=is_read)


def _no_queue(function: str, config: EventConfig) -> str:
    if not config.is_read:
        return f"the destinations of {function} cannot be read: give --from sqs://QUEUE"
    others = [arn for arn in (config.on_success, config.on_failure, config.dead_letters) if arn]
    if others:
        return f"no result of {function} goes to a queue but to {', '.join(others)}: give --from sqs://QUEUE"
    return (
        f"{function} has no destinations and no dead-letter queue: nothing tells what became of its Event "
        "calls; configure an SQS destination, or give --from sqs://QUEUE"
    )


def _wait_s(calls: AcceptedCalls, config: EventConfig, wait_s: float | None) -> float:
    """How long to wait from now: as asked, or until the newest call's result must have come."""
    if wait_s is not None:
        return wait_s
    newest = calls.newest_line()
    started_at = None if newest is None else newest.started_at
    try:
        since_s = time.time() - datetime.fromisoformat(started_at or "").timestamp()
    except ValueError:
        since_s = 0.0
    return max(30.0, config.latest_s - since_s)


def _settle(run_dir: RunDir) -> RunReport:
    """Set run.json right by the journal, and make the report."""
    known = replay(run_dir.path, accepts_lost_mark=True)
    counts = counts_of(known)
    changes: dict[str, Any] = {"counts": counts}
    if run_dir.state.get("state") == "finished":
        changes["exit_code"] = ending(None, counts)[1]
    run_dir.write_state(changes)
    return RunReport.from_run_dir(run_dir.path)


class _Sink:
    """The journal, once it is open."""

    journal: Journal

    @property
    def is_backed_up(self) -> bool:
        return self.journal.is_backed_up

    def write(self, outcomes: list[Outcome]) -> None:
        self.journal.write(outcomes)

    async def flush(self) -> None:
        await self.journal.flush()


class _Stop:
    """What a signal does to a collection: it ends, and can be begun again."""

    def __init__(self) -> None:
        self.collector: Collector | ExecutionCollector | None = None
        self.is_stopping = False

    def stop(self, reason: str, message: str = "") -> None:  # noqa: ARG002 - as a run's
        self.is_stopping = True
        if self.collector is not None:
            self.collector.stop()

    def cut(self) -> None:
        self.stop("")

    def tune(self, changes: Mapping[str, Any]) -> Mapping[str, Any]:  # noqa: ARG002 - as a run's
        raise ConfigError("the run has ended, and its results are collected: nothing can be changed")


class _Said:
    """How far a collection has come, now and then."""

    def __init__(self, audience: Audience) -> None:
        self._audience = audience
        self._next_s = 0.0

    def on_progress(self, counts: Counts) -> None:
        now_s = time.monotonic()
        if now_s >= self._next_s:
            self._next_s = now_s + _SAY_EVERY_S
            self._audience.say(f"collecting: {counts.open:,} still out, {counts.collected:,} collected")

    def at_the_end(self, collector: Collector) -> None:
        counts = collector.counts
        more = [
            f"{count:,} {what}"
            for count, what in (
                (counts.duplicates, "duplicate" + "s" * (counts.duplicates != 1) + " deleted"),
                (counts.strangers, "message" + "s" * (counts.strangers != 1) + " of others put back"),
                (counts.open, "still out"),
            )
            if count
        ]
        self._audience.say(
            "; ".join([f"{counts.collected:,} result{'s' * (counts.collected != 1)} collected", *more])
        )
