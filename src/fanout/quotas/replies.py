"""The answers of Lambda's APIs, and the figures found in them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

Answer = Mapping[str, Any] | str  # an API's reply, or in words why there is none


class Replies(msgspec.Struct, frozen=True):
    """The answers of the APIs.

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
        """True if asking again within a minute would bring nothing new: each API answered, or denied."""
        if self.function_missing or self.refusal is not None or self.unreachable is not None:
            return False
        answers = (self.function, self.account, self.provisioned, self.scaling)
        return all(
            not isinstance(answer, str) or answer.startswith(("AccessDenied ", "HTTP 40"))
            for answer in answers
        )


class FoundFigures(msgspec.Struct, frozen=True):
    """The figures found in the replies; None where it was not there."""

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
    has_accelerator: bool


def read(replies: Replies) -> FoundFigures:
    """Whatever is in the replies: what has another shape is not there."""
    function, account = replies.function, replies.account
    managed = ("Configuration", "CapacityProviderConfig")
    return FoundFigures(
        reserved=_count(function, "Concurrency", "ReservedConcurrentExecutions"),
        provisioned=_count(replies.provisioned, "AllocatedProvisionedConcurrentExecutions"),
        concurrent=_count(account, "AccountLimit", "ConcurrentExecutions"),
        unreserved=_count(account, "AccountLimit", "UnreservedConcurrentExecutions"),
        timeout_s=_count(function, "Configuration", "Timeout"),
        memory_mb=_count(function, "Configuration", "MemorySize"),
        ephemeral_mb=_count(function, "Configuration", "EphemeralStorage", "Size"),
        architecture=word(function, "Configuration", "Architectures"),
        state=word(function, "Configuration", "State"),
        state_reason=word(function, "Configuration", "StateReason"),
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
        has_accelerator=isinstance(_dig(function, "Configuration", "AcceleratorConfig"), Mapping),
    )


def why(answer: Answer, otherwise: str) -> str:
    """The reason why there is no figure."""
    return answer if isinstance(answer, str) else otherwise


def _dig(answer: Answer | None, *path: str) -> object:
    value: object = answer
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _count(answer: Answer | None, *path: str) -> int | None:
    value = _dig(answer, *path)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def word(answer: Answer | None, *path: str) -> str | None:
    """A text, or the first of a list; None for anything else."""
    value = _dig(answer, *path)
    if isinstance(value, list) and value:
        value = value[0]
    return value if isinstance(value, str) else None
