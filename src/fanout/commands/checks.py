"""The checks of a run's options that concern several of them at once, before anything of it is made."""

from __future__ import annotations

from pathlib import Path

from fanout.commands.options import RunOptions
from fanout.commands.workers import check_workers
from fanout.config import check_hedge
from fanout.dispatcher.batcher import plan_of
from fanout.dispatcher.budget import check_own_transport
from fanout.dispatcher.call_maker import CallMaker
from fanout.errors import ConfigError
from fanout.function_name import split_qualifier
from fanout.invoke_request import build_template


def check_options(options: RunOptions) -> None:
    """Raise ConfigError for options that exclude one another, or that no call can have.

    It comes before run.json says that anything is running.
    """
    options.price_table()
    calls = options.calls
    check_hedge(is_hedged=calls.hedge, may_repeat=calls.idempotent or options.durable)
    if options.durable and options.is_batched:
        raise ConfigError("durable names the call of one record: leave batch out")
    if options.durable_expr is not None and options.is_batched:
        raise ConfigError("durable_name names the call of one record: leave batch out")
    if options.durable_expr is not None and options.durable:
        raise ConfigError("durable names each call itself: leave durable_name out")
    if options.durable_expr is not None or options.durable:
        build_template(  # raises ConfigError for calls that no durable name goes with
            function=calls.function,
            invocation_type=calls.invocation_type,
            durable_name="any",
            stream=calls.stream,
        )
    check_workers(options)
    if options.own_transport is not None:
        check_own_transport(calls)
    CallMaker(calls)
    plan_of(calls)


def check_durable(options: RunOptions, directory: Path | None) -> None:
    """Raise ConfigError where calls cannot be named: without a run directory, or without a qualifier."""
    if not options.durable:
        return
    if directory is None:
        raise ConfigError("durable names calls by their run's id: give --out DIR to keep the run in")
    if split_qualifier(options.function, options.calls.qualifier)[1] is None:
        raise ConfigError(
            "a durable function is called with a qualifier: give $LATEST, a version or an alias"
        )


def check_no_queue(options: RunOptions) -> None:
    """Raise ConfigError for options that hold for queues alone."""
    for name, is_given in (
        ("follow", options.follow),
        ("empty_after", options.empty_after is not None),
    ):
        if is_given:
            raise ConfigError(f"{name} goes with a queue: give sqs://NAME as the input")
