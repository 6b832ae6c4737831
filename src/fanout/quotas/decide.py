"""Which budget follows from what Lambda's APIs answered, and where each figure came from. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from fanout.config import Concurrency
from fanout.limit import Cause
from fanout.model import InvocationType

ASSUMED_ACCOUNT = 1_000  # the default quota of an account
ASSUMED_TIMEOUT_S = 900.0  # the longest there is: a lost call's permit must not come back too early
SHARE_OF_UNRESERVED = 0.8  # the pool is every function's: some of it is left to the others
REQUESTS_PER_S_PER_CONCURRENCY = 10
LONGEST_CALL_S = 900  # a synchronous call waits no longer, also for a durable execution
MANAGED_START_ENVIRONMENTS = 3  # of a new version, on managed instances
TENANT_ENVIRONMENTS_PER_CONCURRENCY = 2.5
CLIENT_WIDTH = 256  # calls at once where Lambda bounds none: Event and DryRun

_KNOWN: frozenset[Cause] = frozenset({"reserved", "provisioned", "account", "managed"})

Answer = Mapping[str, Any] | str  # an API's reply, or in words why there is none


class Figure(NamedTuple):
    """One figure, as ``fanout limits`` shows it. ``value`` is None where Lambda sets none, or hides it."""

    name: str
    value: int | float | str | None
    source: str


@dataclass(frozen=True, slots=True)
class Replies:
    """What the APIs answered.

    ``provisioned`` is None when there is no qualifier to ask for, ``scaling`` where the function does not
    run on managed instances. ``unreachable`` says why, when no connection could be made at all;
    ``is_host_unknown`` when the endpoint's name has no address.
    """

    function: Answer
    account: Answer
    provisioned: Answer | None = None
    function_missing: bool = False
    refusal: str | None = None
    scaling: Answer | None = None
    unreachable: str | None = None
    is_host_unknown: bool = False

    @property
    def is_worth_keeping(self) -> bool:
        """Whether asking again within a minute would bring nothing new: each API answered, or denied."""
        if self.function_missing or self.refusal is not None or self.unreachable is not None:
            return False
        answers = (self.function, self.account, self.provisioned, self.scaling)
        return all(
            not isinstance(answer, str) or answer.startswith(("AccessDenied ", "HTTP 40"))
            for answer in answers
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Quotas:
    """The budget of a run, and the figures it follows from. None: no such limit, or not known.

    ``cause`` says in one word what set ``budget``, ``budget_source`` in a phrase; ``allowed`` is what
    ``auto`` would take, and ``is_above_allowed`` that the user's number is more than Lambda is known
    to allow, and that ``budget`` was therefore bounded. ``rate_per_s`` None is no bound; only one that
    ``is_rate_read`` bounds a rate that the user gave. ``function_timeout_s`` is how long one call can last
    at the most, ``is_timeout_read`` whether Lambda said so. ``function_missing``, ``refusal`` (a line about
    the credentials), ``unreachable`` and ``state`` are for the caller to act on.
    """

    budget: int
    budget_source: str
    cause: Cause
    allowed: int
    rate_per_s: float | None
    rate_source: str
    is_rate_read: bool = False
    function_timeout_s: float = ASSUMED_TIMEOUT_S
    is_timeout_read: bool = False
    reserved: int | None = None
    provisioned: int | None = None
    account: int | None = None
    unreserved: int | None = None
    memory_mb: int | None = None
    architecture: str | None = None
    ephemeral_mb: int | None = None
    state: str | None = None  # Pending, Active, Inactive, Failed …
    state_reason: str | None = None
    is_managed: bool = False  # runs on managed instances: other scaling, other prices
    managed_start: int = 0  # calls at once that a new version of such a function takes
    is_durable: bool = False
    durable_retention_days: int | None = None
    is_tenant_isolated: bool = False
    dead_letter_arn: str | None = None
    function_missing: bool = False
    refusal: str | None = None
    unreachable: str | None = None
    is_host_unknown: bool = False
    is_above_allowed: bool = False
    figures: tuple[Figure, ...] = ()
    replies: Replies | None = field(default=None, repr=False, compare=False)

    @property
    def is_assumed(self) -> bool:
        """Whether the budget is a guess: a limit on it starts low."""
        return self.cause == "assumed"


def assumed(
    concurrency: Concurrency,
    *,
    invocation_type: InvocationType = "RequestResponse",
    function_timeout_s: float | None = None,
) -> Quotas:
    """Quotas where Lambda was not asked: no bound on the rate."""
    nobody = Replies("not asked", "not asked")
    quotas = decide(
        nobody, concurrency, invocation_type=invocation_type, function_timeout_s=function_timeout_s
    )
    return replace(quotas, rate_per_s=None, rate_source="none: not asked")


def decide(
    replies: Replies,
    concurrency: Concurrency,
    *,
    invocation_type: InvocationType = "RequestResponse",
    asked_by: str = "option --concurrency",
    function_timeout_s: float | None = None,
) -> Quotas:
    """Read the replies, whatever is in them, and choose the budget. Never raises.

    ``function_timeout_s`` is the user's word for what cannot be read.
    """
    found = _read(replies)
    allowed, cause, source = _allow(replies, found)
    if invocation_type != "RequestResponse":
        allowed, cause, source = (
            CLIENT_WIDTH,
            "width",
            f"Lambda does not limit {invocation_type} calls at once: the client's own width",
        )
    budget, budget_source, budget_cause = allowed, source, cause
    is_above = False
    if concurrency.fixed is not None:
        budget, budget_cause, budget_source = concurrency.fixed, "fixed", f"{asked_by} {concurrency.fixed}"
        if invocation_type == "RequestResponse":
            bound, why = _bound(replies, found)
            if bound is not None and budget > bound:
                is_above = True
                budget_source += f", bounded by the {bound:,} that Lambda allows ({why})"
                budget = bound
    elif concurrency.percent is not None:
        budget = max(1, int(allowed * concurrency.percent / 100)) if allowed else 0
        budget_source = f"{asked_by} {concurrency.percent:g}% of {allowed:,}: {source}"

    rate_per_s: float | None = None
    rate_source, is_rate_read = f"Lambda does not limit the rate of {invocation_type} calls", False
    if invocation_type == "RequestResponse":
        rate_per_s, rate_source, is_rate_read = _rate(found, budget)
    timeout_s, timeout_source = _timeout(replies, found, function_timeout_s)
    return Quotas(
        budget=budget,
        budget_source=budget_source,
        cause=budget_cause,
        allowed=allowed,
        is_above_allowed=is_above,
        rate_per_s=rate_per_s,
        rate_source=rate_source,
        is_rate_read=is_rate_read,
        function_timeout_s=timeout_s,
        is_timeout_read=found.timeout_s is not None,
        reserved=found.reserved,
        provisioned=found.provisioned,
        account=found.concurrent,
        unreserved=found.unreserved,
        memory_mb=found.memory_mb,
        architecture=found.architecture,
        ephemeral_mb=found.ephemeral_mb,
        state=found.state,
        state_reason=found.state_reason,
        is_managed=found.is_managed,
        managed_start=MANAGED_START_ENVIRONMENTS * found.per_environment if found.is_managed else 0,
        is_durable=found.is_durable,
        durable_retention_days=found.retention_days,
        is_tenant_isolated=found.is_tenant_isolated,
        dead_letter_arn=_word(replies.function, "Configuration", "DeadLetterConfig", "TargetArn"),
        function_missing=replies.function_missing,
        refusal=replies.refusal,
        unreachable=replies.unreachable,
        is_host_unknown=replies.is_host_unknown,
        figures=_figures(replies, found, timeout_source, rate_per_s, rate_source),
        replies=replies,
    )


@dataclass(frozen=True, slots=True)
class _Found:
    """What was read out of the replies; None where it was not there."""

    reserved: int | None
    provisioned: int | None
    concurrent: int | None
    unreserved: int | None
    timeout_s: int | None
    memory_mb: int | None
    ephemeral_mb: int | None
    architecture: str | None
    state: str | None
    state_reason: str | None
    is_managed: bool
    per_environment: int
    environments: int | None
    is_durable: bool
    execution_timeout_s: int | None
    retention_days: int | None
    is_tenant_isolated: bool


def _read(replies: Replies) -> _Found:
    function, account = replies.function, replies.account
    managed = ("Configuration", "CapacityProviderConfig")
    return _Found(
        reserved=_count(function, "Concurrency", "ReservedConcurrentExecutions"),
        provisioned=_count(replies.provisioned, "AllocatedProvisionedConcurrentExecutions"),
        concurrent=_count(account, "AccountLimit", "ConcurrentExecutions"),
        unreserved=_count(account, "AccountLimit", "UnreservedConcurrentExecutions"),
        timeout_s=_count(function, "Configuration", "Timeout"),
        memory_mb=_count(function, "Configuration", "MemorySize"),
        ephemeral_mb=_count(function, "Configuration", "EphemeralStorage", "Size"),
        architecture=_word(function, "Configuration", "Architectures"),
        state=_word(function, "Configuration", "State"),
        state_reason=_word(function, "Configuration", "StateReason"),
        is_managed=isinstance(_dig(function, *managed), Mapping),
        per_environment=_count(
            function,
            *managed,
            "LambdaManagedInstancesCapacityProviderConfig",
            "PerExecutionEnvironmentMaxConcurrency",
        )
        or 1,
        environments=_count(replies.scaling, "AppliedFunctionScalingConfig", "MaxExecutionEnvironments"),
        is_durable=isinstance(_dig(function, "Configuration", "DurableConfig"), Mapping),
        execution_timeout_s=_count(function, "Configuration", "DurableConfig", "ExecutionTimeout"),
        retention_days=_count(function, "Configuration", "DurableConfig", "RetentionPeriodInDays"),
        is_tenant_isolated=isinstance(_dig(function, "Configuration", "TenancyConfig"), Mapping),
    )


def _timeout(replies: Replies, found: _Found, given_s: float | None) -> tuple[float, str]:
    """How long one call can last, and why."""
    if found.is_durable:
        # A synchronous call waits for the whole execution, which may outlast one invocation by far.
        execution_s = found.execution_timeout_s or LONGEST_CALL_S
        return float(min(execution_s, LONGEST_CALL_S)), "GetFunction: the execution's timeout, at most 900"
    if found.timeout_s:
        return float(found.timeout_s), "GetFunction"
    why = _why(replies.function, "GetFunction without a timeout")
    if given_s is not None:
        return given_s, f"option --function-timeout; {why}"
    return ASSUMED_TIMEOUT_S, f"assumed {ASSUMED_TIMEOUT_S:.0f}: {why}"


def _figures(
    replies: Replies, found: _Found, timeout_source: str, rate_per_s: float | None, rate_source: str
) -> tuple[Figure, ...]:
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
    timeout_s, _ = _timeout(replies, found, None)
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


def _allow(replies: Replies, found: _Found) -> tuple[int, Cause, str]:
    """What ``auto`` takes for synchronous calls: the number, and why in a word and in a phrase."""
    if found.is_managed:
        if found.environments:
            most = found.environments * found.per_environment
            return (
                most,
                "managed",
                f"{found.environments:,} environments x {found.per_environment:,} calls each",
            )
        why = _why(replies.scaling or {}, "GetFunctionScalingConfig without a maximum")
        first = MANAGED_START_ENVIRONMENTS
        source = f"assumed: {first} environments x {found.per_environment:,} calls each; {why}"
        return first * found.per_environment, "assumed", source
    if found.provisioned:
        return found.provisioned, "provisioned", "provisioned concurrency of the qualifier"
    if found.reserved is not None:
        note = " (0: Lambda throttles every call)" if found.reserved == 0 else ""
        return found.reserved, "reserved", f"reserved concurrency of the function{note}"
    pool = found.unreserved if found.unreserved is not None else found.concurrent
    share = f"{SHARE_OF_UNRESERVED:.0%} of "
    if pool is None:
        reason = _why(replies.account, "GetAccountSettings without figures")
        return (
            int(ASSUMED_ACCOUNT * SHARE_OF_UNRESERVED),
            "assumed",
            f"assumed: {share}the default quota of {ASSUMED_ACCOUNT:,}; {reason}",
        )
    allowed = int(pool * SHARE_OF_UNRESERVED) or min(pool, 1)
    if isinstance(replies.function, str):
        return (
            allowed,
            "assumed",
            f"assumed: {share}the unreserved pool, if nothing is reserved; {replies.function}",
        )
    return allowed, "account", f"{share}the account's unreserved pool of {pool:,}"


def _bound(replies: Replies, found: _Found) -> tuple[int | None, str]:
    """The most that Lambda was read to run at once; None where nothing that was read says so."""
    if found.is_managed:
        if not found.environments:
            return None, ""
        return found.environments * found.per_environment, "environments x calls each"
    if found.reserved is not None:
        return found.reserved, "reserved concurrency of the function"
    if found.unreserved is not None and not isinstance(replies.function, str):
        return max(1, found.unreserved), "the account's unreserved pool"
    return found.concurrent, "the account's concurrency"


def _rate(found: _Found, budget: int) -> tuple[float | None, str, bool]:
    """Requests per second, from where, and whether that was read."""
    if found.is_managed:
        return None, "Lambda does not limit the rate on managed instances", True
    for concurrency, name in (
        (found.provisioned, "provisioned"),
        (found.reserved, "reserved"),
        (found.concurrent, "account"),
    ):
        if concurrency:
            rate = float(REQUESTS_PER_S_PER_CONCURRENCY * concurrency)
            return rate, f"{REQUESTS_PER_S_PER_CONCURRENCY} x the {name} concurrency", True
    concurrency = max(ASSUMED_ACCOUNT, budget)
    return (
        float(REQUESTS_PER_S_PER_CONCURRENCY * concurrency),
        f"assumed: {REQUESTS_PER_S_PER_CONCURRENCY} x {concurrency:,}",
        False,
    )


def _figure(name: str, value: int | str | None, answer: Answer, api: str, instead: str = "unknown") -> Figure:
    if isinstance(answer, str):
        return Figure(name, value, f"{instead}: {answer}")
    return Figure(name, value, api if value is not None else f"{api}: none")


def _why(answer: Answer, otherwise: str) -> str:
    return answer if isinstance(answer, str) else otherwise


def _dig(answer: Answer | None, *path: str) -> object:
    value: object = answer
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _count(answer: Answer | None, *path: str) -> int | None:
    value = _dig(answer, *path)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _word(answer: Answer | None, *path: str) -> str | None:
    value = _dig(answer, *path)
    if isinstance(value, list) and value:
        value = value[0]
    return value if isinstance(value, str) else None
