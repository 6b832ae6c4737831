"""The budget that follows from the answers of Lambda's APIs, with the source of each figure. Pure."""

from __future__ import annotations

import msgspec

from fanout.config import Concurrency
from fanout.limit import Cause
from fanout.model import InvocationType
from fanout.quotas.figures import ASSUMED_TIMEOUT_S, Figure, call_timeout, make_figures
from fanout.quotas.replies import FoundFigures, Replies, read, why, word

ASSUMED_ACCOUNT = 1_000  # the default quota of an account
SHARE_OF_UNRESERVED = 0.8  # the pool is every function's: some of it is left to the others
REQUESTS_PER_S_PER_CONCURRENCY = 10
MANAGED_START_ENVIRONMENTS = 3  # of a new version, on managed instances
CLIENT_WIDTH = 256  # calls at once where Lambda bounds none: Event and DryRun

_KNOWN: frozenset[Cause] = frozenset({"reserved", "provisioned", "account", "managed"})


class Quotas(msgspec.Struct, frozen=True, kw_only=True):
    """The budget of a run, and the figures it follows from. None: no such limit, or not known.

    ``cause`` says in one word what set ``budget``, ``budget_source`` in a phrase; ``allowed`` is what
    ``auto`` would take, and ``is_above_allowed`` that the user's number is more than Lambda is known
    to allow, and that ``budget`` was therefore bounded. ``rate_per_s`` None is no bound; only one that
    ``is_rate_read`` bounds a rate that the user gave. ``function_timeout_s`` is how long one call can last
    at the most. ``function_missing``, ``refusal`` (a line about
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
    unpriced: str | None = None  # what of the function is not charged by the GB-second
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
    replies: Replies | None = None

    @property
    def is_assumed(self) -> bool:
        """True if the budget is a guess: a limit on it starts low."""
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
    return msgspec.structs.replace(quotas, rate_per_s=None, rate_source="none: not asked")


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
    found = read(replies)
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
            bound, bounded_by = _bound(replies, found)
            if bound is not None and budget > bound:
                is_above = True
                budget_source += f", bounded by the {bound:,} that Lambda allows ({bounded_by})"
                budget = bound
    elif concurrency.percent is not None:
        budget = max(1, int(allowed * concurrency.percent / 100)) if allowed else 0
        budget_source = f"{asked_by} {concurrency.percent:g}% of {allowed:,}: {source}"

    rate_per_s: float | None = None
    rate_source, is_rate_read = f"Lambda does not limit the rate of {invocation_type} calls", False
    if invocation_type == "RequestResponse":
        rate_per_s, rate_source, is_rate_read = _rate(found, budget)
    timeout_s, timeout_source = call_timeout(replies, found, function_timeout_s)
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
        unpriced="managed instances"
        if found.is_managed
        else "accelerators"
        if found.has_accelerator
        else None,
        is_durable=found.is_durable,
        durable_retention_days=found.retention_days,
        is_tenant_isolated=found.is_tenant_isolated,
        dead_letter_arn=word(replies.function, "Configuration", "DeadLetterConfig", "TargetArn"),
        function_missing=replies.function_missing,
        refusal=replies.refusal,
        unreachable=replies.unreachable,
        is_host_unknown=replies.is_host_unknown,
        figures=make_figures(replies, found, timeout_source, rate_per_s, rate_source),
        replies=replies,
    )


def _allow(replies: Replies, found: FoundFigures) -> tuple[int, Cause, str]:
    """The number that ``auto`` takes for synchronous calls, and why in a word and in a phrase."""
    if found.is_managed:
        if found.environments:
            most = found.environments * found.per_environment
            return (
                most,
                "managed",
                f"{found.environments:,} environments x {found.per_environment:,} calls each",
            )
        reason = why(replies.scaling or {}, "GetFunctionScalingConfig without a maximum")
        first = MANAGED_START_ENVIRONMENTS
        source = f"assumed: {first} environments x {found.per_environment:,} calls each; {reason}"
        return first * found.per_environment, "assumed", source
    if found.provisioned:
        return found.provisioned, "provisioned", "provisioned concurrency of the qualifier"
    if found.reserved is not None:
        note = " (0: Lambda throttles every call)" if found.reserved == 0 else ""
        return found.reserved, "reserved", f"reserved concurrency of the function{note}"
    pool = found.unreserved if found.unreserved is not None else found.concurrent
    share = f"{SHARE_OF_UNRESERVED:.0%} of "
    if pool is None:
        reason = why(replies.account, "GetAccountSettings without figures")
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


def _bound(replies: Replies, found: FoundFigures) -> tuple[int | None, str]:
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


def _rate(found: FoundFigures, budget: int) -> tuple[float | None, str, bool]:
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
