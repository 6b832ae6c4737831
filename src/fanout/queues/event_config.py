"""The event configuration of a function: where results of Event calls go, and how late they can come."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fanout.queues.location import SCHEME

_DEFAULT_RETRIES = 2
_DEFAULT_AGE_S = 21_600
_ASSUMED_TIMEOUT_S = 900.0
_RETRY_WAITS_S = (60.0, 120.0)  # before the first and the second retry
_MARGIN_S = 300.0


@dataclass(frozen=True, slots=True)
class EventConfig:
    """A function's configuration of Event calls; ARNs are None where nothing is configured or known."""

    retries: int = _DEFAULT_RETRIES
    max_age_s: int = _DEFAULT_AGE_S
    timeout_s: float = _ASSUMED_TIMEOUT_S
    on_success: str | None = None
    on_failure: str | None = None
    dead_letters: str | None = None
    is_read: bool = True  # else nothing is known of the destinations

    @property
    def latest_s(self) -> float:
        """The longest time from a call to its result. The age bounds the waiting, not the tries."""
        waits_s = sum(_RETRY_WAITS_S[: self.retries])
        return self.max_age_s + (self.retries + 1) * self.timeout_s + waits_s + _MARGIN_S

    @property
    def queues(self) -> list[str]:
        """Locations of the queues among the destinations, each once."""
        arns = (self.on_success, self.on_failure, self.dead_letters)
        found = dict.fromkeys(arn for arn in arns if arn is not None and ":sqs:" in arn)
        return [f"{SCHEME}{arn}" for arn in found]

    def carries_successes(self, queue_arns: Iterable[str]) -> bool:
        """True if successes reach one of these queues: directly, or maybe through a topic or a bus."""
        if self.on_success is None:
            return False
        return self.on_success in set(queue_arns) or ":sqs:" not in self.on_success


def read_event_config(
    function: Mapping[str, Any] | None, invoke: Mapping[str, Any] | None, *, is_read: bool
) -> EventConfig:
    """From the replies of GetFunction and GetFunctionEventInvokeConfig; None: there is none.

    ``is_read``: whether Lambda said so, or refused to say.
    """
    settings = (function or {}).get("Configuration") or {}
    invoke = invoke or {}
    destinations = invoke.get("DestinationConfig") or {}
    retries, age_s = invoke.get("MaximumRetryAttempts"), invoke.get("MaximumEventAgeInSeconds")
    timeout_s = settings.get("Timeout")
    return EventConfig(
        retries=retries if isinstance(retries, int) else _DEFAULT_RETRIES,
        max_age_s=age_s if isinstance(age_s, int) else _DEFAULT_AGE_S,
        timeout_s=float(timeout_s) if isinstance(timeout_s, (int, float)) else _ASSUMED_TIMEOUT_S,
        on_success=_arn(destinations.get("OnSuccess"), "Destination"),
        on_failure=_arn(destinations.get("OnFailure"), "Destination"),
        dead_letters=_arn(settings.get("DeadLetterConfig"), "TargetArn"),
        is_read=is_read,
    )


def _arn(members: Any, name: str) -> str | None:
    value = members.get(name) if isinstance(members, dict) else None
    return value if isinstance(value, str) and value else None
