"""The refusal that is known before the first call: of a function that no call can run."""

from __future__ import annotations

from collections.abc import Mapping

from fanout.errors import FatalRefusal
from fanout.quotas.decide import Quotas


def refusal_before_calls(function: str, quotas: Quotas, *, invocation_type: str) -> FatalRefusal | None:
    """Return what the limits say against every call alike; None where calls can be tried."""
    if quotas.unreachable is not None and quotas.is_host_unknown:
        return FatalRefusal(quotas.unreachable, code="Unreachable")
    if quotas.refusal is not None:
        return FatalRefusal(quotas.refusal, code="Refused", http_status=403)
    if quotas.state == "Failed":
        message = f"{function}: the function is in state Failed{_reason_of(quotas)}"
        return FatalRefusal(message, code="Failed", http_status=409)
    if quotas.reserved == 0 and invocation_type == "RequestResponse":
        why = "reserved concurrency is 0, so Lambda throttles every call; raise it or remove it"
        return FatalRefusal(f"{function}: {why}", code="ReservedConcurrencyZero", http_status=429)
    return None


def _reason_of(quotas: Quotas) -> str:
    """The reason why a function failed, as GetFunction says."""
    found = None if quotas.replies is None else quotas.replies.function
    configuration = found.get("Configuration") if isinstance(found, Mapping) else None
    reason = configuration.get("StateReason") if isinstance(configuration, Mapping) else None
    return f": {reason}" if isinstance(reason, str) and reason else ""
