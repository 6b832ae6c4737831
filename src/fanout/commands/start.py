"""The beginning of a new run: its input, its directory, its session."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, AsyncExitStack, contextmanager
from importlib import import_module
from pathlib import Path

from msgspec.structs import replace

from fanout.commands.bookkeeping import FirstSession
from fanout.commands.checks import check_durable, check_no_queue, check_options
from fanout.commands.local import local_function
from fanout.commands.run_input import DialectNote, open_input
from fanout.commands.run_request import RunRequest
from fanout.commands.run_state import discard, first_state, missing
from fanout.commands.session import RunSession
from fanout.errors import ConfigError, FatalRefusal, SourceError
from fanout.inputs import Selector
from fanout.journal import RunDir
from fanout.quantities import count_of
from fanout.queues import is_queue
from fanout.report.summary import RunReport
from fanout.runs import Intake, Spending
from fanout.runs.audience import Audience


async def start(request: RunRequest, audience: Audience) -> RunReport:
    """Do a whole new run. What goes wrong after its first call stands in the report.

    Before it, raises ConfigError, SourceError, JournalError, EmulatorError and FatalRefusal.
    """
    for line in request.without_effect:
        audience.say(line)
    if len(request.locations) > 1 and any(is_queue(location) for location in request.locations):
        raise ConfigError("a queue is the only input of its run: run it by itself")
    options = request.options
    if request.canary is not None:
        options = replace(options, take=request.canary, preflight=True, report=False)
    if is_queue(request.location):
        return await _start_with_queue(request, audience)
    check_no_queue(options)
    async with AsyncExitStack() as stack:
        local = stack.enter_context(local_function(options))
        note = DialectNote()
        source, reading = None, options.reading(samples=request.out is not None)
        if request.location is not None:
            source = open_input(request, request.out, audience.say, note, by_rows=reading is not None)
        if source is not None:
            stack.push_async_callback(source.aclose)  # what follows may refuse
        selector = options.selector()
        check_options(options)
        check_durable(options, request.out)
        spending = Spending(options.price_table())
        collect = await _collection(stack, request, audience)
        run_dir, undone = _make_directory(stack, request, audience)
        note.keep_in(run_dir)
        session = RunSession(
            local,
            audience,
            FirstSession(records_planned=request.records_planned),
            spending=spending,
            run_dir=run_dir,
            to_stdout=request.to_stdout,
            discards_unread=request.location is not None,
        )
        intake = Intake(
            source=source,
            payloads=request.payloads,
            selector=selector,
            take=options.take,
            on_record=None if run_dir is None else session.note_record,
            reading=reading,
        )
        with undone(lambda: session.has_read, ConfigError, FatalRefusal, SourceError):
            report = await session.go(intake)
        say_without_key(selector, options.key, audience)
        return report if collect is None else await collect(report, run_dir)


async def _start_with_queue(request: RunRequest, audience: Audience) -> RunReport:
    from fanout.commands.queue import check_queue_run, open_queue, queue_intake

    location, options = request.location, request.options
    assert location is not None
    if request.out is None:
        raise ConfigError(
            f"{location} is a queue: its run needs a directory, for the numbers of its messages"
        )
    check_queue_run(location, options)
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(open_queue(location, options))
        local = stack.enter_context(local_function(options))
        check_options(options)
        check_durable(options, request.out)
        spending = Spending(options.price_table())
        collect = await _collection(stack, request, audience)
        run_dir, undone = _make_directory(stack, request, audience)
        assert run_dir is not None
        session: RunSession | None = None
        with undone(lambda: session is not None and session.has_read, ConfigError, FatalRefusal):
            async with queue_intake(client, run_dir.path, options, say=audience.say) as intake:
                session = RunSession(
                    local, audience, FirstSession(), spending=spending, run_dir=run_dir, sync_listener=intake
                )
                try:
                    report = await session.go(intake)
                finally:
                    intake.release(session.not_sent)
        return report if collect is None else await collect(report, run_dir)


async def _collection(
    stack: AsyncExitStack, request: RunRequest, audience: Audience
) -> Callable[[RunReport, RunDir | None], Awaitable[RunReport]] | None:
    """What collects the results of a run that has ended; None for a run that does not collect."""
    options = request.options
    if not options.collect:
        return None  # as most are: what reads queues takes 9 ms to import
    from fanout.commands.collect import collected
    from fanout.commands.result_sources import sources_of

    sources = await sources_of(stack, options, out=request.out, audience=audience)

    async def collect(report: RunReport, run_dir: RunDir | None) -> RunReport:
        return await collected(report, run_dir, options, sources, audience)

    return collect


def _make_directory(
    stack: AsyncExitStack, request: RunRequest, audience: Audience
) -> tuple[RunDir | None, Callable[..., AbstractContextManager[None]]]:
    """The run's directory, locked, and what undoes it when it is left by errors of some kinds.

    Only before the first record was read: later a callback may raise anything, and the journal stays.
    """
    made: list[Path] = []
    run_dir: RunDir | None = None
    if request.out is not None:
        made = missing(request.out)
        audience.heed_signals(request.out)
        with ThreadPoolExecutor(1) as executor:
            creating = executor.submit(RunDir.create, request.out, first_state(request))
            _import_what_comes_next()
            run_dir = creating.result()
        stack.enter_context(run_dir.lock())

    @contextmanager
    def undone(has_read: Callable[[], bool], *kinds: type[Exception]) -> Iterator[None]:
        try:
            yield
        except kinds:
            if run_dir is not None and not has_read():
                discard(run_dir, made)
            raise

    return run_dir, undone


def _import_what_comes_next() -> None:
    """Import what the first call needs, which takes about as long as the syncs of a new directory."""
    for module in ("anyio._backends._asyncio", "anyio.streams.memory", "encodings.idna"):
        import_module(module)
    import_module("fanout.transports.direct")


def say_without_key(selector: Selector, key: str | None, audience: Audience) -> None:
    """Say how many records have no key, though one was asked for."""
    if selector.without_key:
        keyless = count_of(selector.without_key, "record has", "records have")
        audience.say(f"{keyless} no key: {key!r} found nothing there")
