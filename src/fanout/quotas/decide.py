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
CLIENT_WIDTH = 256  # calls at once where Lambda bounds none: Event and DryRun

_KNOWN: frozenset[Cause] = frozenset({"reserved", "provisioned", "account"})

Answer = Mapping[str, Any] | str  # an API's reply, or in words why there is none


class Figure(NamedTuple):
    """One figure, as ``fanout limits`` shows it. ``value`` is None where Lambda sets none, or hides it."""

    name: str
    value: int | float | str | None
    source: str


@dataclass(frozen=True, slots=True)
class Replies:
    """What the APIs answered. ``provisioned`` is None when there is no qualifier to ask for."""

    function: Answer
    account: Answer
    provisioned: Answer | None = None
    function_missing: bool = False
    refusal: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Quotas:
    """The budget of a run, and the figures it follows from. None: no such limit, or not known.

    ``cause`` says in one word what set ``budget``, ``budget_source`` in a phrase; ``allowed`` is what
    ``auto`` would take, and ``is_above_allowed`` that the user's number is more than Lambda is known
    to allow. ``rate_per_s`` None is no bound. ``function_missing`` and ``refusal`` (a
    line about the credentials) are for the caller to act on.
    """

    budget: int
    budget_source: str
    cause: Cause
    allowed: int
    rate_per_s: float | None
    rate_source: str
    function_timeout_s: float = ASSUMED_TIMEOUT_S
    reserved: int | None = None
    provisioned: int | None = None
    account: int | None = None
    unreserved: int | None = None
    memory_mb: int | None = None
    architecture: str | None = None
    ephemeral_mb: int | None = None
    state: str | None = None
    function_missing: bool = False
    refusal: str | None = None
    is_above_allowed: bool = False
    figures: tuple[Figure, ...] = ()
    replies: Replies | None = field(default=None, repr=False, compare=False)

    @property
    def is_assumed(self) -> bool:
        """Whether the budget is a guess: a limit on it starts low."""
        return self.cause == "assumed"


def assumed(concurrency: Concurrency, *, invocation_type: InvocationType = "RequestResponse") -> Quotas:
    """Quotas where nobody could be asked: no bound on the rate."""
    nobody = Replies("nobody was asked", "nobody was asked")
    quotas = decide(nobody, concurrency, invocation_type=invocation_type)
    return replace(quotas, rate_per_s=None, rate_source="none: nobody was asked")


def decide(
    replies: Replies,
    concurrency: Concurrency,
    *,
    invocation_type: InvocationType = "RequestResponse",
    asked_by: str = "option --concurrency",
) -> Quotas:
    """Read the replies, whatever is in them, and choose the budget. Never raises."""
    function, account = replies.function, replies.account
    reserved = _count(function, "Concurrency", "ReservedConcurrentExecutions")
    provisioned = _count(replies.provisioned, "AllocatedProvisionedConcurrentExecutions")
    concurrent = _count(account, "AccountLimit", "ConcurrentExecutions")
    unreserved = _count(account, "AccountLimit", "UnreservedConcurrentExecutions")
    timeout_s = _count(function, "Configuration", "Timeout")
    memory_mb = _count(function, "Configuration", "MemorySize")
    ephemeral_mb = _count(function, "Configuration", "EphemeralStorage", "Size")
    architecture = _word(function, "Configuration", "Architectures")
    state = _word(function, "Configuration", "State")

    found: tuple[int, Cause, str] = _allow(
        replies, reserved, provisioned, unreserved if unreserved is not None else concurrent
    )
    if invocation_type != "RequestResponse":
        found = (
            CLIENT_WIDTH,
            "width",
            f"Lambda bounds no {invocation_type} calls at once: a width of the client's",
        )
    allowed, cause, source = found
    budget, budget_source, budget_cause = allowed, source, cause
    if concurrency.fixed is not None:
        budget, budget_cause = concurrency.fixed, "fixed"
        budget_source = f"{asked_by} {budget}"
        if cause in _KNOWN and budget > allowed:
            budget_source += f", above the {allowed:,} that Lambda allows ({source})"
    elif concurrency.percent is not None:
        budget = max(1, int(allowed * concurrency.percent / 100)) if allowed else 0
        budget_source = f"{asked_by} {concurrency.percent:g}% of {allowed:,}: {source}"

    rate_per_s: float | None = None
    rate_source = f"Lambda bounds no rate of {invocation_type} calls"
    if invocation_type == "RequestResponse":
        rate_per_s, rate_source = _rate(reserved, provisioned, concurrent, budget)

    figures = [_figure("reserved concurrency", reserved, function, "GetFunction")]
    if replies.provisioned is not None:
        figures.append(
            _figure(
                "provisioned concurrency", provisioned, replies.provisioned, "GetProvisionedConcurrencyConfig"
            )
        )
    figures += [
        _figure("account concurrency", concurrent, account, "GetAccountSettings"),
        _figure("unreserved pool", unreserved, account, "GetAccountSettings"),
        _figure("timeout (s)", timeout_s, function, "GetFunction", f"assumed {ASSUMED_TIMEOUT_S:.0f}"),
        _figure("memory (MB)", memory_mb, function, "GetFunction"),
        _figure("ephemeral storage (MB)", ephemeral_mb, function, "GetFunction"),
        _figure("architecture", architecture, function, "GetFunction"),
        _figure("state", state, function, "GetFunction"),
        Figure("requests per second", rate_per_s, rate_source),
    ]
    return Quotas(
        budget=budget,
        budget_source=budget_source,
        cause=budget_cause,
        allowed=allowed,
        is_above_allowed=budget_cause == "fixed" and cause in _KNOWN and budget > allowed,
        rate_per_s=rate_per_s,
        rate_source=rate_source,
        function_timeout_s=float(timeout_s or ASSUMED_TIMEOUT_S),
        reserved=reserved,
        provisioned=provisioned,
        account=concurrent,
        unreserved=unreserved,
        memory_mb=memory_mb,
        architecture=architecture,
        ephemeral_mb=ephemeral_mb,
        state=state,
        function_missing=replies.function_missing,
        refusal=replies.refusal,
        figures=tuple(figures),
        replies=replies,
    )


def _allow(
    replies: Replies, reserved: int | None, provisioned: int | None, pool: int | None
) -> tuple[int, Cause, str]:
    """What ``auto`` takes for synchronous calls: the number, and why in a word and in a phrase."""
    if provisioned:
        return provisioned, "provisioned", "provisioned concurrency of the qualifier"
    if reserved is not None:
        told = " (0: Lambda throttles every call)" if reserved == 0 else ""
        return reserved, "reserved", f"reserved concurrency of the function{told}"
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


def _rate(
    reserved: int | None, provisioned: int | None, account: int | None, budget: int
) -> tuple[float | None, str]:
    for concurrency, name in ((provisioned, "provisioned"), (reserved, "reserved"), (account, "account")):
        if concurrency:
            rate = float(REQUESTS_PER_S_PER_CONCURRENCY * concurrency)
            return rate, f"{REQUESTS_PER_S_PER_CONCURRENCY} x the {name} concurrency"
    concurrency = max(ASSUMED_ACCOUNT, budget)
    return (
        float(REQUESTS_PER_S_PER_CONCURRENCY * concurrency),
        f"assumed: {REQUESTS_PER_S_PER_CONCURRENCY} x {concurrency:,}",
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
