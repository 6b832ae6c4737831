"""The dry run: the whole input is read as a run would read it, checked and counted, and nothing is sent.

No directory is made and Lambda is asked nothing; of AWS only an input in S3 is read.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack

from fanout.commands.checks import check_no_queue, check_options
from fanout.commands.dry_run_report import DryRunReport, Fault, Projected
from fanout.commands.key_hashes import KeyHashes
from fanout.commands.run_input import open_input
from fanout.commands.run_request import RunRequest
from fanout.config import Options, parse_concurrency
from fanout.dispatcher import InputRecord
from fanout.dispatcher.batcher import Batcher, plan_of
from fanout.dispatcher.call import Call, Feed
from fanout.dispatcher.call_maker import CallMaker
from fanout.errors import ConfigError, SourceError
from fanout.inputs import Selector, shown_location
from fanout.invoke_request import payload_fault
from fanout.queues import is_queue
from fanout.runs import Intake
from fanout.runs.audience import Audience

_TURN = 1024  # records between two turns of the event loop, so that Ctrl-C is heeded
_FAULTS_SHOWN = 5


async def perform_dry_run(request: RunRequest, audience: Audience) -> DryRunReport:
    """Read, select, check and count. Raises ConfigError as a run would, and SourceError for a bad input."""
    for location in request.locations:
        if is_queue(location):
            raise ConfigError(
                f"{shown_location(location)} is a queue: looking at its messages would receive them, "
                "which counts as a try of each: --dry-run is not for queues"
            )
    options = request.options
    check_no_queue(options)
    if options.preflight:
        raise ConfigError("preflight sends a call and dry_run sends nothing: leave one of them out")
    check_options(options)
    selector = options.selector()
    count = _Count(options.calls, selector)
    async with AsyncExitStack() as stack:
        stack.callback(count.keys.close)
        source = None if request.location is None else open_input(request, None, audience.say)
        if source is not None:
            stack.push_async_callback(source.aclose)
        intake = Intake(
            source=source,
            payloads=request.payloads,
            selector=selector,
            take=options.take,
        )
        stack.push_async_callback(intake.aclose)
        await _read(intake, count)
        if (failure := intake.failure) is not None:
            if source is None or isinstance(failure, SourceError):
                raise failure
            raise SourceError(f"{shown_location(source.location)} cannot be read: {failure!r}") from failure
        return await asyncio.to_thread(count.report, None if source is None else request.location)


async def _read(intake: Intake, count: _Count) -> None:
    ready = asyncio.Event()
    filling = asyncio.ensure_future(intake.fill(ready.set))
    try:
        while True:
            record = intake.next(0.0)
            if record is not None:
                count.add(record)
                if count.records % _TURN == 0:
                    await asyncio.sleep(0)
            elif intake.has_ended:
                return
            else:
                await ready.wait()
                ready.clear()
    finally:
        filling.cancel()
        await asyncio.gather(filling, return_exceptions=True)


class _Count:
    """Counts records, and the calls that would carry them."""

    def __init__(self, options: Options, selector: Selector) -> None:
        self._options = options
        self._selector = selector
        self._calls = CallMaker(options)
        plan = plan_of(options)
        self._batcher = None if plan is None else Batcher(plan, self._calls, "dry-run")
        self._feed = Feed()
        self.keys = KeyHashes()
        self.records = 0
        self._kinds: Counter[str] = Counter()
        self._first: list[Fault] = []
        self._sizes: Counter[int] = Counter()
        self._bytes = self._largest = 0
        self._call_count = self._call_bytes = 0

    def add(self, record: InputRecord) -> None:
        """One record, a faulty one included."""
        self.records += 1
        if self._batcher is not None:
            self._count_call(self._batcher.add(self._feed, record, 0.0))
        else:
            template = self._calls.template_of(record)
            if record.fault is None:
                record.fault = payload_fault(template, record.body)
            if record.fault is None:
                self._call_count += 1
                self._call_bytes += len(record.body)
        if record.fault is not None:
            self._kinds[record.fault.type] += 1
            if len(self._first) < _FAULTS_SHOWN:
                self._first.append(Fault.of(record))
            return
        size = len(record.body)
        self._bytes += size
        self._largest = max(self._largest, size)
        self._sizes[size.bit_length() if size & (size - 1) else max(size, 1).bit_length() - 1] += 1
        if record.key is not None:
            self.keys.add(record.key)

    def _count_call(self, call: Call | None) -> None:
        if call is not None and call.batch is not None:  # without one it is a fault by itself
            self._call_count += 1
            self._call_bytes += len(call.body)

    def report(self, location: str | None) -> DryRunReport:
        """The counts so far. Blocks: duplicates are looked for on the disk."""
        if self._batcher is not None:
            while (call := self._batcher.due(self._feed, 0.0, is_last=True)) is not None:
                self._count_call(call)
        options = self._options
        return DryRunReport(
            function=options.function,
            input=None if location is None else shown_location(location),
            records=self.records,
            faults=sum(self._kinds.values()),
            faults_by_kind=dict(self._kinds.most_common()),
            first_faults=tuple(self._first),
            keys_missing=self._selector.without_key,
            keys_duplicated=self.keys.duplicates(),
            calls=self._call_count,
            bytes=self._bytes,
            largest_bytes=self._largest,
            call_bytes=self._call_bytes,
            sizes={1 << power: self._sizes[power] for power in sorted(self._sizes)},
            projected=Projected.of(
                self._call_count,
                concurrency=parse_concurrency(options.concurrency).fixed,
                rate=options.rate,
                timeout_s=options.timeout or options.function_timeout,
            ),
        )
