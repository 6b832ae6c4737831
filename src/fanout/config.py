"""The options of a dispatcher by the command's names, checked once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self, TypedDict

import msgspec

from fanout.errors import ConfigError

_INVOCATION_TYPES = ("RequestResponse", "Event", "DryRun")
_LOG_TYPES = ("None", "Tail", "OnError")
MIB = 1024 * 1024


class OptionKeywords(TypedDict, total=False):
    """The options of a dispatcher as keywords: those of ``Options``, for editors and type checkers."""

    concurrency: int | str
    rate: float | None
    retries: int
    retry_function_errors: int
    retry_on: Sequence[str]
    idempotent: bool
    hedge: bool
    timeout: float | None
    function_timeout: float | None
    connect_timeout: float
    deadline: float | None
    throttle_patience: float
    outage_patience: float | None
    leave: int | str | None
    max_bytes_in_flight: int
    qualifier: str | None
    invocation_type: Literal["RequestResponse", "Event", "DryRun"]
    log_type: Literal["None", "Tail", "OnError"]
    client_context: str | Mapping[str, Any] | None
    tenant_id: str | None
    durable_name: str | None
    stream: bool
    batch: int | None
    batch_bytes: int | None
    batch_wait: float
    batch_shape: Literal["items", "sqs", "array"] | None
    batch_input: Any
    batch_reply: Literal["whole", "array", "batchItemFailures"] | None
    bisect: bool
    breaker: int | None
    trace: bool
    profile: str | None
    region: str | None
    endpoint_url: str | None
    verify: bool | str | None
    seed: int | None
    is_local: bool
    invocation: Literal["stream"]


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of one dispatcher. Seconds everywhere; ``None`` means "find out, or no bound"."""

    function: str
    concurrency: int | str = "auto"  # N, "P%", "auto" or "@FILE"
    rate: float | None = None  # calls per second
    leave: int | str | None = None  # N or "P%" of the account's concurrency that stays free for others
    retries: int = 3  # extra attempts after TRANSIENT
    retry_function_errors: int = 0
    retry_on: Sequence[str] = ()  # error types; empty means any, once retry_function_errors > 0
    idempotent: bool = False
    hedge: bool = False  # one copy of a call that is far later than its peers, at the end of the input
    timeout: float | None = None  # per call; default: the function's own plus slack
    function_timeout: float | None = None  # the function's own, where it cannot be read
    connect_timeout: float = 5.0
    deadline: float | None = None  # for all of it, from the start
    throttle_patience: float = 300.0  # seconds of nothing but throttles before giving up
    outage_patience: float | None = None  # default: 15 minutes for runs and ``map``, 0 for ``invoke``
    max_bytes_in_flight: int = 256 * MIB
    qualifier: str | None = None
    invocation_type: Literal["RequestResponse", "Event", "DryRun"] = "RequestResponse"
    log_type: Literal["None", "Tail", "OnError"] = "None"
    client_context: str | Mapping[str, Any] | None = None
    tenant_id: str | None = None
    durable_name: str | None = None
    stream: bool = False
    batch: int | None = None  # records in one call at the most
    batch_bytes: int | None = None  # payload bytes in one call at the most
    batch_wait: float = 0.2  # how long a batch of a slow input waits to fill
    batch_shape: Literal["items", "sqs", "array"] | None = None
    batch_input: Any = None  # the ``BatchInput`` of shape ``items``
    batch_reply: Literal["whole", "array", "batchItemFailures"] | None = None
    bisect: bool = False  # halve a batch whose function failed
    breaker: int | None = None  # failures in a row that pause admission
    trace: bool = False  # pass the current trace context to the function
    profile: str | None = None
    region: str | None = None
    endpoint_url: str | None = None
    verify: bool | str | None = None  # False, or a CA bundle; None: AWS_CA_BUNDLE and the system's
    transport: Literal["direct", "sdk"] = "direct"
    seed: int | None = None  # of the jitter, for tests
    is_local: bool = False  # the endpoint is the run's own: it checks no keys

    def __post_init__(self) -> None:
        _check(bool(self.function), "function", self.function, "a name, a partial ARN or an ARN")
        parse_concurrency(self.concurrency)
        if self.leave is not None:
            parse_leave(self.leave)
        _check(
            _is_number(self.rate) and self.rate > 0 if self.rate is not None else True,
            "rate",
            self.rate,
            "more than 0 calls per second",
        )
        for name in ("retries", "retry_function_errors"):
            value = getattr(self, name)
            _check(_is_count(value), name, value, "a whole number from 0")
        for name in ("timeout", "function_timeout", "deadline", "throttle_patience", "connect_timeout"):
            value = getattr(self, name)
            _check(value is None or (_is_number(value) and value > 0), name, value, "more than 0 seconds")
        for name in ("batch", "batch_bytes"):
            value = getattr(self, name)
            _check(value is None or (_is_count(value) and value > 0), name, value, "a whole number from 1")
        _check(
            _is_number(self.batch_wait) and self.batch_wait >= 0,
            "batch_wait",
            self.batch_wait,
            "seconds from 0",
        )
        patience = self.outage_patience
        _check(
            patience is None or (_is_number(patience) and patience >= 0),
            "outage_patience",
            patience,
            "seconds from 0",
        )
        _check(
            _is_count(self.max_bytes_in_flight) and self.max_bytes_in_flight > 0,
            "max_bytes_in_flight",
            self.max_bytes_in_flight,
            "a whole number of bytes from 1",
        )
        _check(
            self.breaker is None or (_is_count(self.breaker) and self.breaker > 0),
            "breaker",
            self.breaker,
            "a whole number from 1",
        )
        _check(
            self.invocation_type in _INVOCATION_TYPES,
            "invocation_type",
            self.invocation_type,
            " | ".join(_INVOCATION_TYPES),
        )
        _check(self.log_type in _LOG_TYPES, "log_type", self.log_type, " | ".join(_LOG_TYPES))
        _check(self.transport in ("direct", "sdk"), "transport", self.transport, "direct | sdk")
        is_list = not isinstance(self.retry_on, str)
        are_types = is_list and all(isinstance(each, str) for each in self.retry_on)
        _check(are_types, "retry_on", self.retry_on, "a list of error types")
        check_flags(self)
        if self.hedge:
            self._check_hedge()
        if self.endpoint_url is not None:
            _check(
                self.endpoint_url.startswith(("http://", "https://")),
                "endpoint_url",
                self.endpoint_url,
                "http://… or https://…",
            )

    def _check_hedge(self) -> None:
        for name, is_given in (
            (f"invocation_type {self.invocation_type}", self.invocation_type != "RequestResponse"),
            ("stream", self.stream),
            ("batch", self.batch is not None or self.batch_bytes is not None),
        ):
            if is_given:
                raise ConfigError(f"hedge does not go with {name}: leave one of them out")

    @classmethod
    def of(cls, function: str, given: Mapping[str, Any], *, transport: str = "direct") -> Self:
        """Checked options of keywords. Raises ConfigError for a value, TypeError for an unknown name."""
        named = {**given}
        if "invocation" in named:  # the field's word for a streamed reply
            if (streamed := named.pop("invocation")) != "stream":
                raise ConfigError(f"invocation is {streamed!r}: give 'stream', or use invocation_type")
            named["stream"] = True
        unknown = sorted(set(named) - cls.names())
        if unknown:
            known = ", ".join(sorted(cls.names() - {"function"}))
            raise TypeError(f"unknown option {unknown[0]!r}: there are {known}")
        return cls(function=function, **{"transport": transport, **named})

    @classmethod
    def names(cls) -> frozenset[str]:
        """The names of all options."""
        return frozenset(cls.__struct_fields__)


class Concurrency(msgspec.Struct, frozen=True):
    """A parsed ``concurrency``: at most one of the members; none is ``auto``."""

    fixed: int | None = None
    percent: float | None = None
    file: str | None = None


def parse_concurrency(value: int | str) -> Concurrency:
    """``N``, ``"P%"``, ``"auto"`` or ``"@FILE"``. Raises ConfigError for anything else."""
    allowed = "a whole number from 1, a share such as 50%, auto, or @FILE"
    if isinstance(value, bool):
        raise _refusal("concurrency", value, allowed)
    if isinstance(value, int):
        _check(value >= 1, "concurrency", value, allowed)
        return Concurrency(fixed=value)
    text = str(value).strip()
    if text == "auto":
        return Concurrency()
    if text.startswith("@") and len(text) > 1:
        return Concurrency(file=text[1:])
    try:
        if text.endswith("%"):
            percent = float(text[:-1])
            _check(0 < percent <= 100, "concurrency", value, allowed)
            return Concurrency(percent=percent)
        number = int(text)
    except ValueError:
        raise _refusal("concurrency", value, allowed) from None
    _check(number >= 1, "concurrency", value, allowed)
    return Concurrency(fixed=number)


class Leave(msgspec.Struct, frozen=True):
    """A parsed ``leave``: a number of calls at once, or a share of the account's."""

    fixed: int | None = None
    percent: float = 0.0

    def of(self, account: int) -> int:
        """The number of calls at once that stays free."""
        return self.fixed if self.fixed is not None else math.ceil(account * self.percent / 100)


def parse_leave(value: int | str) -> Leave:
    """``N`` or ``"P%"``. Raises ConfigError for anything else."""
    allowed = "a whole number from 0, or a share below 100%, such as 20%"
    text = str(value).strip()
    _check(not isinstance(value, bool), "leave", value, allowed)
    try:
        if text.endswith("%"):
            percent = float(text[:-1])
            _check(0 <= percent < 100, "leave", value, allowed)
            return Leave(percent=percent)
        number = int(text)
    except ValueError:
        raise _refusal("leave", value, allowed) from None
    _check(number >= 0, "leave", value, allowed)
    return Leave(fixed=number)


def check_flags(options: Any) -> None:
    """Raise ConfigError for a flag that is not True or False: a text such as "no" would count as True."""
    for name, kind in type(options).__annotations__.items():
        if kind == "bool":
            value = getattr(options, name)
            _check(isinstance(value, bool), name, value, "True or False")


def check_hedge(*, is_hedged: bool, may_repeat: bool) -> None:
    """Raise ConfigError where calls would be sent twice that may not run twice."""
    if is_hedged and not may_repeat:
        raise ConfigError(
            "hedge sends some records twice: give idempotent too, if they may run twice, "
            "or durable, for a durable function"
        )


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value == value


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _refusal(name: str, value: object, allowed: str) -> ConfigError:
    return ConfigError(f"{name} is {value!r}: give {allowed}")


def _check(holds: bool, name: str, value: object, allowed: str) -> None:
    if not holds:
        as_number = ", as a number" if isinstance(value, str) and "seconds" in allowed else ""
        raise _refusal(name, value, allowed + as_number)
