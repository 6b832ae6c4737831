"""The checks before a run: its options can hold, limits were read, and the caller may invoke the function."""

from __future__ import annotations

from fanout.classify import classify, classify_failure
from fanout.dispatcher import IntakeDispatcher
from fanout.errors import ConfigError, FatalRefusal, TransportError
from fanout.invoke_request import build_template
from fanout.model import Verdict
from fanout.runs.stop_rules import StopRules


def check_options_hold(dispatcher: IntakeDispatcher, rules: StopRules) -> None:
    """Raise ConfigError for an option that cannot hold for the function that was found."""
    function, quotas = dispatcher.options.function, dispatcher.budget.quotas
    if dispatcher.names_calls and not quotas.is_durable:
        raise ConfigError(
            f"{function} is not known to be durable (GetFunction shows no DurableConfig for this qualifier): "
            "leave durable out, or name a durable version"
        )
    if quotas.unpriced and rules.max_cost_usd is not None:
        raise ConfigError(
            f"max_cost cannot be kept: the function has {quotas.unpriced}, whose cost is not known here: "
            "leave it out"
        )


async def check_before_flight(dispatcher: IntakeDispatcher, *, asks_lambda_first: bool = False) -> None:
    """One DryRun, and a look at what discovery found. Raises FatalRefusal, in one line, if either says no.

    ``asks_lambda_first``: GetFunction's word alone stops nothing, as it is wrong for functions of other
    accounts; the DryRun decides. A throttled DryRun says nothing against the run: what throttles has let
    the caller in.
    """
    options, quotas = dispatcher.options, dispatcher.budget.quotas
    if quotas.function_missing and not asks_lambda_first:
        where = f"no such function in {dispatcher.budget.region}"
        raise FatalRefusal(
            f"{options.function}: {where}: check its name and the Region",
            code="ResourceNotFoundException",
            http_status=404,
        )
    if quotas.refusal is not None:
        raise FatalRefusal(quotas.refusal, code="Refused", http_status=403)
    template = build_template(
        function=options.function,
        qualifier=options.qualifier,
        invocation_type="DryRun",
        tenant_id=options.tenant_id,
    )
    try:
        reply = await dispatcher.budget.transport.send(template, b"{}")
    except TransportError as error:
        found, status = classify_failure(error), None
    else:
        found, status = classify(reply, template), reply.status
    if found.verdict in (Verdict.SUCCESS, Verdict.THROTTLED):
        return
    error_type = "Unreachable" if found.error is None else found.error.type
    message = "" if found.error is None else found.error.message
    raise FatalRefusal(f"{options.function}: {error_type}: {message}", code=error_type, http_status=status)


def function_meta(dispatcher: IntakeDispatcher) -> dict[str, object]:
    """What was found of the function and its limits, as the report and run.json keep it."""
    quotas = dispatcher.budget.quotas
    return {
        "memory_mb": quotas.memory_mb,
        "architecture": quotas.architecture,
        "ephemeral_mb": quotas.ephemeral_mb,
        "unpriced": quotas.unpriced,
        "function_timeout_s": quotas.function_timeout_s,
        "budget": quotas.budget,
        "budget_cause": quotas.cause,
        "rate_per_s": quotas.rate_per_s,
        "region": dispatcher.budget.region,
        "invocation_type": dispatcher.options.invocation_type,
    }
