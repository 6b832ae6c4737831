"""Admission: which calls Lambda takes, and the reason it gives for refusing the others.

Pure: no clock, no I/O. Every method takes ``now_s``, seconds of any one monotonic clock. The rules
are those of AWS's developer guide ("Lambda quotas", "Understanding function scaling"): reserved and
account concurrency, ten requests a second per unit of concurrency, and the scaling rule of
+1,000 environments or +10,000 requests/s per function every 10 s. The guide does not say how large
a burst the request rate allows; here it is one second's worth.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from enum import StrEnum

from fanout.emulator.buckets import Scaling, TokenBucket

KEPT_UNRESERVED = 100
REQUESTS_PER_S_PER_CONCURRENCY = 10
SCALING_STEP_ENVIRONMENTS = 1_000
SCALING_STEP_REQUESTS_PER_S = 10_000
GET_FUNCTION_PER_S = 100
CONTROL_PLANE_PER_S = 15


class Reason(StrEnum):
    """The reason of a throttle, in the words of the Invoke API's ``Reason``."""

    RESERVED_CONCURRENCY = "ReservedFunctionConcurrentInvocationLimitExceeded"
    CONCURRENCY = "ConcurrentInvocationLimitExceeded"
    RESERVED_RATE = "ReservedFunctionInvocationRateLimitExceeded"
    RATE = "FunctionInvocationRateLimitExceeded"
    CALLER_RATE = "CallerRateLimitExceeded"


class FunctionLoad:
    """The share of the account that one function holds: calls in flight, environments, limits, counts."""

    __slots__ = (
        "environments",
        "in_flight",
        "max_in_flight",
        "name",
        "provisioned",
        "provisioned_in_flight",
        "rate",
        "rate_growth",
        "requests",
        "reserved",
        "throttles",
        "window_requests",
        "window_started_at_s",
    )

    def __init__(self, name: str, reserved: int | None = None) -> None:
        self.name = name
        self.reserved = reserved
        self.rate = TokenBucket(REQUESTS_PER_S_PER_CONCURRENCY * (reserved or 0))
        self.provisioned: dict[str, int] = {}
        self.clear()

    def clear(self) -> None:
        """Start again cold: no environments, no counts. Limits stay."""
        self.in_flight = 0
        self.max_in_flight = 0
        self.provisioned_in_flight: Counter[str] = Counter()
        self.environments = Scaling(SCALING_STEP_ENVIRONMENTS)
        self.rate_growth = Scaling(SCALING_STEP_REQUESTS_PER_S)
        self.window_started_at_s = float("-inf")
        self.window_requests = 0
        self.requests = 0
        self.throttles: Counter[str] = Counter()


class Grant:
    """One admitted call; goes back to ``Account.release`` exactly once."""

    __slots__ = ("generation", "is_cold", "load", "provisioned")

    def __init__(
        self, load: FunctionLoad, generation: int, provisioned: str | None, *, is_cold: bool
    ) -> None:
        self.load = load
        self.generation = generation
        self.provisioned = provisioned
        self.is_cold = is_cold


class Account:
    """Admit and release calls of every function under one account's concurrency.

    A function with reserved concurrency is bound by that alone; the others share what is left. The
    reason given when the scaling rule refuses a call is not documented: taken to be that of concurrency.
    With ``is_enforced`` false everything is admitted and only counted.
    """

    def __init__(self, concurrency: int = 1_000, *, is_enforced: bool = True) -> None:
        self.concurrency = concurrency
        self.is_enforced = is_enforced
        self.functions: dict[str, FunctionLoad] = {}
        self.rate = TokenBucket(REQUESTS_PER_S_PER_CONCURRENCY * concurrency)
        self.in_flight = 0
        self.max_in_flight = 0
        self._shared_in_flight = 0
        self._set_aside = 0
        self._generation = 0

    def add(self, name: str, reserved: int | None = None) -> FunctionLoad:
        """Register a function, with its reserved concurrency if it has one."""
        load = self.functions[name] = FunctionLoad(name, reserved)
        self._count_set_aside()
        return load

    @property
    def unreserved(self) -> int:
        """Concurrency left for functions without a reservation of their own."""
        return max(0, self.concurrency - self._set_aside)

    def admit(
        self, load: FunctionLoad, now_s: float, *, qualifier: str = "", is_metered: bool = True
    ) -> Grant | Reason:
        """Admit one call, or say why not. Event calls are not ``is_metered``: their rate has no limit."""
        load.requests += 1
        if not self.is_enforced:
            is_cold = load.in_flight >= load.environments.level
            load.environments.level = max(load.environments.level, load.in_flight + 1)
            self._count_in(load, None)
            return Grant(load, self._generation, None, is_cold=is_cold)
        reserved = load.reserved
        provisioned = None
        if qualifier and load.provisioned.get(qualifier, 0) > load.provisioned_in_flight[qualifier]:
            provisioned = qualifier
        elif reserved is not None:
            if load.in_flight >= reserved:
                return self._refuse(load, Reason.RESERVED_CONCURRENCY)
        elif self._shared_in_flight >= self.unreserved:
            return self._refuse(load, Reason.CONCURRENCY)
        if is_metered:
            if now_s - load.window_started_at_s >= 1:
                load.window_started_at_s = now_s
                load.window_requests = 0
            if reserved is not None and not load.rate.has_token(now_s):
                return self._refuse(load, Reason.RESERVED_RATE)
            if not self.rate.has_token(now_s) or not load.rate_growth.allows(load.window_requests + 1, now_s):
                return self._refuse(load, Reason.RATE)
        on_demand = (
            load.in_flight - load.provisioned_in_flight.total() if load.provisioned else load.in_flight
        )
        is_cold = provisioned is None and on_demand >= load.environments.level
        if is_cold:
            if not load.environments.allows(on_demand + 1, now_s):
                return self._refuse(load, Reason.CONCURRENCY)
            load.environments.reach(on_demand + 1)
        if is_metered:
            if reserved is not None:
                load.rate.take()
            self.rate.take()
            load.window_requests += 1
            load.rate_growth.reach(load.window_requests)
        self._count_in(load, provisioned)
        return Grant(load, self._generation, provisioned, is_cold=is_cold)

    def release(self, grant: Grant, *, environment_lost: bool = False) -> None:
        """Give the call's place back; a lost environment must be started anew under the scaling rule."""
        if grant.generation != self._generation:
            return  # counted before a reset
        load = grant.load
        load.in_flight -= 1
        self.in_flight -= 1
        if grant.provisioned is not None:
            load.provisioned_in_flight[grant.provisioned] -= 1
        elif load.reserved is None:
            self._shared_in_flight -= 1
        if environment_lost and grant.provisioned is None and load.environments.level:
            load.environments.level -= 1

    def set_concurrency(self, concurrency: int, now_s: float) -> None:
        """Change the account's limit; calls in flight beyond it finish."""
        self.concurrency = concurrency
        self.rate.set_rate(REQUESTS_PER_S_PER_CONCURRENCY * concurrency, now_s)

    def set_reserved(self, load: FunctionLoad, reserved: int | None, now_s: float) -> None:
        """Change or take away a function's reservation; calls in flight beyond it finish."""
        if (load.reserved is None) != (reserved is None):
            shared = load.in_flight - load.provisioned_in_flight.total()
            self._shared_in_flight += shared if reserved is None else -shared
        load.reserved = reserved
        load.rate.set_rate(REQUESTS_PER_S_PER_CONCURRENCY * (reserved or 0), now_s)
        self._count_set_aside()

    def set_provisioned(self, load: FunctionLoad, qualifier: str, allocated: int | None) -> None:
        """Change or take away the provisioned concurrency of a version or alias."""
        if allocated is None:
            load.provisioned.pop(qualifier, None)
        else:
            load.provisioned[qualifier] = allocated
        self._count_set_aside()

    def may_reserve(self, load: FunctionLoad, reserved: int) -> bool:
        """Say whether 100 would stay unreserved."""
        return self.concurrency - (self._set_aside - (load.reserved or 0) + reserved) >= KEPT_UNRESERVED

    def reset(self) -> None:
        """Forget counts and environments; what is still in flight is no longer counted."""
        self._generation += 1
        self.in_flight = self.max_in_flight = self._shared_in_flight = 0
        for load in self.functions.values():
            load.clear()

    def refuse_stray(self, load: FunctionLoad) -> Reason:
        """Refuse a call as one too many, whatever is running."""
        return self._refuse(
            load, Reason.CONCURRENCY if load.reserved is None else Reason.RESERVED_CONCURRENCY
        )

    def throttles(self) -> Mapping[str, int]:
        """Count refused calls by reason, over all functions."""
        return sum((load.throttles for load in self.functions.values()), Counter())

    def _count_in(self, load: FunctionLoad, provisioned: str | None) -> None:
        load.in_flight += 1
        load.max_in_flight = max(load.max_in_flight, load.in_flight)
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        if provisioned is not None:
            load.provisioned_in_flight[provisioned] += 1
        elif load.reserved is None:
            self._shared_in_flight += 1

    def _refuse(self, load: FunctionLoad, reason: Reason) -> Reason:
        load.throttles[reason] += 1
        return reason

    def _count_set_aside(self) -> None:
        self._set_aside = sum(
            sum(load.provisioned.values()) if load.reserved is None else load.reserved
            for load in self.functions.values()
        )


class ControlPlane:
    """Meter the API calls that are not Invoke: GetFunction 100/s, all others 15/s together."""

    def __init__(self) -> None:
        self._get_function = TokenBucket(GET_FUNCTION_PER_S)
        self._others = TokenBucket(CONTROL_PLANE_PER_S)
        self.throttles = 0

    def admit(self, operation: str, now_s: float) -> bool:
        """Admit one request, or count it as ``CallerRateLimitExceeded``."""
        bucket = self._get_function if operation == "GetFunction" else self._others
        if bucket.has_token(now_s):
            bucket.take()
            return True
        self.throttles += 1
        return False
