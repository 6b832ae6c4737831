"""The dispatcher of a run: in this process, or a coordinator of workers."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

from msgspec.structs import replace

from fanout.commands.main_program import check_importable
from fanout.commands.options import RunOptions
from fanout.dispatcher import Hooks, IntakeDispatcher
from fanout.errors import ConfigError
from fanout.quantities import count_of
from fanout.runs import Audience

# A process that makes calls fills a core; a hundred of them on two cores take minutes and gigabytes to start.
_MOST_ANYWHERE = 16
_MOST_PER_CORE = 4


def check_workers(options: RunOptions) -> None:
    """Raise ConfigError for what does not go with workers."""
    workers, scheduler = options.workers, options.scheduler
    if workers is not None and (type(workers) is not int or workers < 0):
        raise ConfigError(f"workers is {workers!r}: give a whole number of processes, 0 for none")
    if workers is not None and workers > (most := max(_MOST_ANYWHERE, _MOST_PER_CORE * _cores())):
        raise ConfigError(
            f"workers is {workers}, and this machine has {count_of(_cores(), 'core')}: give at most "
            f"{most}; one for each core but one is a good number"
        )
    if not options.uses_workers:
        return
    if workers and scheduler is not None:
        raise ConfigError("workers and scheduler are both given: choose one")
    if isinstance(scheduler, str):
        if not scheduler.startswith(("tcp://", "tls://")):
            raise ConfigError(f"scheduler is {scheduler!r}: give tcp://HOST:PORT or tls://HOST:PORT")
    elif scheduler is not None:
        _check_client(scheduler)
    if options.own_transport is not None:
        raise ConfigError("workers cannot use a transport of your own: leave workers out")
    if options.calls.stream:
        raise ConfigError("stream does not go with workers: streamed replies are files of one machine")
    if options.calls.hedge:
        raise ConfigError("hedge does not go with workers: leave one of them out")
    if options.local is not None and scheduler is not None:
        raise ConfigError("local and scheduler are both given: other machines do not reach a local handler")
    if workers:
        check_importable()
    from fanout.workers import load_dask

    load_dask()


def _cores() -> int:
    """Those that this process may use, where the system says so."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _check_client(client: Any) -> None:
    distributed = sys.modules.get("distributed")
    if distributed is None or not isinstance(client, distributed.Client):
        raise ConfigError(
            f"scheduler is {client!r:.90}: give tcp://HOST:PORT, tls://HOST:PORT or a dask.distributed.Client"
        )
    if client.status != "running":
        raise ConfigError(f"the Dask client is {client.status}: give one that is connected")


def check_client_can_work(scheduler: Any) -> None:
    """Raise ConfigError for a Dask client of the event loop that a blocking call would keep from turning."""
    try:
        running = asyncio.get_running_loop()
    except RuntimeError:
        return
    if getattr(getattr(scheduler, "loop", None), "asyncio_loop", None) is running:
        raise ConfigError(
            "the Dask client works on this event loop, which would wait for the run: "
            "use `await asyncio.to_thread(fanout.run, …)`"
        )


def make_dispatcher(
    options: RunOptions, *, hooks: Hooks, run_id: str | None, generation: int, audience: Audience
) -> IntakeDispatcher:
    """The dispatcher of checked options. The deadline is the run's, not that of each intake."""
    calls = replace(options.calls, deadline=None)
    if options.uses_workers:
        from fanout.workers import Coordinator, DaskCrew

        return Coordinator(
            calls,
            crew=DaskCrew(workers=options.workers or None, scheduler=options.scheduler),
            hooks=hooks,
            run_id=run_id,
            generation=generation,
            names_calls=options.durable,
            say=None if audience.on_message is None else audience.say,  # else it is logged
            note=audience.note,
        )
    return IntakeDispatcher(
        calls,
        transport=options.own_transport,
        hooks=hooks,
        run_id=run_id,
        generation=generation,
        names_calls=options.durable,
    )
