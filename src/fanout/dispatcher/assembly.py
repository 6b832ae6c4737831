"""The assembly of an engine: its policies and listeners, from checked options and a budget that was read."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from fanout.breaker import Breaker
from fanout.config import Options
from fanout.dispatcher.batcher import Batcher
from fanout.dispatcher.budget import Budget
from fanout.dispatcher.call_maker import CallMaker
from fanout.dispatcher.engine import Engine
from fanout.dispatcher.events import EventLog
from fanout.dispatcher.hooks import Hooks
from fanout.dispatcher.outcomes import OutcomeMaker
from fanout.gate import Gate
from fanout.model import Outcome
from fanout.outage import DEFAULT_PATIENCE_S, Outage
from fanout.retry import RetryPolicy, ThrottlePatience
from fanout.stats.telemetry import Telemetry

OnOutcome = Callable[[Outcome, Any], None]


class Assembled(NamedTuple):
    """An engine, and the OpenTelemetry of its calls."""

    engine: Engine
    telemetry: Telemetry


def assemble(
    options: Options,
    budget: Budget,
    *,
    calls: CallMaker,
    batcher: Batcher | None,
    hooks: Hooks,
    on_outcome: OnOutcome | None,
    on_refusal: Callable[[], object],
    generation: int,
    names_calls: bool,
) -> Assembled:
    """The engine of a dispatcher. ``budget`` is entered already.

    ``on_refusal`` is called when calls that were accepted are refused. ``names_calls``: each call has a
    name by which a durable function starts it once.
    """
    gate = Gate(budget.limit, max_bytes_in_flight=options.max_bytes_in_flight)
    telemetry = Telemetry(options.function, region=budget.region, in_flight=lambda: gate.in_flight)
    listeners = [] if on_outcome is None else [on_outcome]
    if telemetry.is_enabled:
        hooks = _TracedHooks(hooks, telemetry)
        listeners.append(telemetry.on_outcome)
    engine = Engine(
        transport=budget.transport,
        limit=budget.limit,
        gate=gate,
        pacer=budget.pacer,
        policy=RetryPolicy(
            retries=options.retries,
            # To name error types is to ask for their retry.
            retry_function_errors=options.retry_function_errors or int(bool(options.retry_on)),
            retry_on=options.retry_on,
            idempotent=options.idempotent,
            rng=random.Random(options.seed),  # noqa: S311 - jitter, no secret
        ),
        patience=ThrottlePatience(options.throttle_patience),
        outcomes=OutcomeMaker(keeps_tail_of_successes=options.log_type == "Tail", generation=generation),
        outage=_outage(options, budget),
        batcher=batcher,
        breaker=None if options.breaker is None else Breaker(options.breaker),
        hooks=hooks,
        on_outcome=_joined(listeners),
        on_refusal=on_refusal,
        linger_s=budget.linger_s,
        hedges=options.hedge,
        is_durable=budget.quotas.is_durable,
        renamed=calls.renamed if names_calls else None,
        function=options.function,
    )
    return Assembled(engine, telemetry)


def _outage(options: Options, budget: Budget) -> Outage:
    """The outage policy; a function that is not ready begins with one."""
    patience_s, state = options.outage_patience, budget.quotas.state
    outage = Outage(DEFAULT_PATIENCE_S if patience_s is None else patience_s)
    if state in ("Pending", "Inactive"):
        text = "%s is %s: waiting for it"
        EventLog(options.function).warning("function_pending", text, options.function, state, state=state)
        now_s = asyncio.get_running_loop().time()
        outage.begin(f"the function is {state}", now_s, wait_s=0.0)
        outage.announces_pause(now_s)  # done
    return outage


def _joined(listeners: Sequence[OnOutcome]) -> OnOutcome | None:
    if len(listeners) < 2:
        return listeners[0] if listeners else None

    def call(outcome: Outcome, span: Any) -> None:
        for listener in listeners:
            listener(outcome, span)

    return call


class _TracedHooks(Hooks):
    """The caller's hooks, and OpenTelemetry's."""

    def __init__(self, hooks: Hooks, telemetry: Telemetry) -> None:
        self._hooks = hooks
        self._telemetry = telemetry

    def on_throttle(self, reason: str) -> None:
        self._hooks.on_throttle(reason)
        self._telemetry.on_throttle(reason)
