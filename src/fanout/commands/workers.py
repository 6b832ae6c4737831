"""Where the calls of a run are made: in this process, or by workers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from fanout.commands.request import RunOptions
from fanout.dispatcher import Dispatcher
from fanout.errors import ConfigError


def uses_workers(options: RunOptions) -> bool:
    """Whether workers make the calls."""
    return bool(options.workers) or options.scheduler is not None


def dispatcher_class(
    options: dict[str, Any], run_options: RunOptions, transport: Any
) -> Callable[..., Dispatcher]:
    """What a run makes its dispatcher of. Raises ConfigError for what does not go with workers."""
    workers, scheduler = run_options.workers, run_options.scheduler
    if workers is not None and (type(workers) is not int or workers < 0):
        raise ConfigError(f"workers is {workers!r}: give a whole number of processes, 0 for none")
    if not uses_workers(run_options):
        return Dispatcher
    if workers and scheduler is not None:
        raise ConfigError("workers and scheduler are both given: choose one")
    if isinstance(scheduler, str) and not scheduler.startswith(("tcp://", "tls://")):
        raise ConfigError(f"scheduler is {scheduler!r}: give tcp://HOST:PORT or tls://HOST:PORT")
    if not isinstance(transport, str):
        raise ConfigError("workers cannot use a transport of your own: leave workers out")
    if options.get("stream") or options.get("invocation") == "stream":
        raise ConfigError("stream does not go with workers: streamed replies are files of one machine")
    if options.get("hedge"):
        raise ConfigError("hedge does not go with workers: leave one of them out")
    if run_options.local is not None and scheduler is not None:
        raise ConfigError("local and scheduler are both given: other machines do not reach a local handler")
    from fanout.workers import Coordinator, DaskCrew

    return partial(Coordinator, crew=DaskCrew(workers=workers or None, scheduler=scheduler))
