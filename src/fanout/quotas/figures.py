"""The figures of ``fanout limits``: each with its value and where it came from. Pure."""

from __future__ import annotations

from typing import NamedTuple

from fanout.quotas.replies import Answer, FoundFigures, Replies, why

ASSUMED_TIMEOUT_S = 900.0  # the longest there is: a lost call's permit must not come back too early
LONGEST_CALL_S = 900  # a synchronous call waits no longer, also for a durable execution
TENANT_ENVIRONMENTS_PER_CONCURRENCY = 2.5


class Figure(NamedTuple):
    """One figure, as ``fanout limits`` shows it. ``value`` is None where Lambda sets none, or hides it."""

    name: str
    value: int | float | str | None
    source: str


def call_timeout(replies: Replies, found: FoundFigures, given_s: float | None) -> tuple[float, str]:
    """The longest time that one call can last, in seconds, and why."""
    if found.is_durable:
        # A synchronous call waits for the whole execution, which may outlast one invocation by far.
        execution_s = found.execution_timeout_s or LONGEST_CALL_S
        return float(min(execution_s, LONGEST_CALL_S)), "GetFunction: the execution's timeout, at most 900"
    if found.timeout_s:
        return float(found.timeout_s), "GetFunction"
    reason = why(replies.function, "GetFunction without a timeout")
    if given_s is not None:
        return given_s, f"option --function-timeout; {reason}"
    return ASSUMED_TIMEOUT_S, f"assumed {ASSUMED_TIMEOUT_S:.0f}: {reason}"


def make_figures(
    replies: Replies, found: FoundFigures, timeout_source: str, rate_per_s: float | None, rate_source: str
) -> tuple[Figure, ...]:
    """All of them, in the order of the table."""
    function, account = replies.function, replies.account
    figures = [_figure("reserved concurrency", found.reserved, function, "GetFunction")]
    if replies.provisioned is not None:
        figures.append(
            _figure(
                "provisioned concurrency",
                found.provisioned,
                replies.provisioned,
                "GetProvisionedConcurrencyConfig",
            )
        )
    if found.is_managed:
        figures += [
            Figure("concurrency per environment", found.per_environment, "GetFunction: managed instances"),
            _figure(
                "most environments", found.environments, replies.scaling or {}, "GetFunctionScalingConfig"
            ),
        ]
    figures += [
        _figure("account concurrency", found.concurrent, account, "GetAccountSettings"),
        _figure("unreserved pool", found.unreserved, account, "GetAccountSettings"),
    ]
    if found.is_tenant_isolated:
        most = None
        if (concurrency := found.reserved or found.concurrent) is not None:
            most = int(concurrency * TENANT_ENVIRONMENTS_PER_CONCURRENCY)
        figures.append(
            Figure("tenant environments", most, "2,500 for each 1,000 of concurrency, idle ones included")
        )
    timeout_s, _ = call_timeout(replies, found, None)
    if found.is_durable:
        figures.append(Figure("durable executions kept (days)", found.retention_days, "GetFunction"))
    figures += [
        Figure(
            "timeout (s)",
            None if timeout_source.startswith(("assumed", "option")) else timeout_s,
            timeout_source,
        ),
        _figure("memory (MB)", found.memory_mb, function, "GetFunction"),
        _figure("ephemeral storage (MB)", found.ephemeral_mb, function, "GetFunction"),
        _figure("architecture", found.architecture, function, "GetFunction"),
        _figure("state", found.state, function, f"GetFunction{_because(found.state_reason)}"),
        Figure("requests per second", rate_per_s, rate_source),
    ]
    return tuple(figures)


def _because(reason: str | None) -> str:
    return f": {' '.join(reason.split())[:200]}" if reason else ""


def _figure(name: str, value: int | str | None, answer: Answer, api: str, instead: str = "unknown") -> Figure:
    if isinstance(answer, str):
        return Figure(name, value, f"{instead}: {answer}")
    return Figure(name, value, api if value is not None else f"{api}: none")
