"""Specification of a simulated function, as ``--simulate`` has it: ``name=f,latency=100ms,error_rate=1%``."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import msgspec

from fanout.emulator.lifecycle import Window
from fanout.emulator.simulation import Simulation
from fanout.errors import EmulatorError

MAX_EXECUTION_S = 31_622_400.0
MAX_RETENTION_S = 90 * 86_400.0
DESTINATION = re.compile(r"arn:aws[a-z-]*:(sqs|sns):[a-z0-9-]+:\d{12}:[a-zA-Z0-9_-]{1,256}")
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0, "": 1.0}
_BYTES = {"": 1, "b": 1, "kb": 1_024, "mb": 1_024 * 1_024}
_Z99 = 2.3263478740408408  # the normal distribution's 99th percentile


def parse_simulation(text: str) -> Simulation:
    """Read ``latency=100ms,error_rate=0.01,name=f``; raises EmulatorError naming the wrong part."""
    simulation = Simulation()
    size_bytes = None
    for part in _split(text):
        key, equals, value = part.partition("=")
        key, value = key.strip(), value.strip()
        if not equals:
            raise _wrong(text, part, "write key=value")
        try:
            status = re.fullmatch(r"status_([45]\d\d)_rate", key)
            if status:
                simulation.status_rates[int(status[1])] = _rate(value)
            elif key == "response_size":
                size_bytes = parse_size(value)
            elif key in _SETTERS:
                name, convert = _SETTERS[key]
                setattr(simulation, name, convert(value))
            else:
                known = ", ".join([*_SETTERS, "response_size", "status_NNN_rate"])
                raise _wrong(text, part, f"known keys: {known}")
        except ValueError as error:
            raise _wrong(text, part, str(error)) from error
    if size_bytes is not None:
        simulation.output = b'"' + b"x" * max(0, size_bytes - 2) + b'"'
    table = simulation.faults()
    if table and table[-1][0] > 1 + 1e-9:
        raise EmulatorError(f"--simulate {text!r}: its rates add up to more than 1")
    return simulation


def parse_duration(text: str) -> float:
    """Read ``100ms``, ``1.5s``, ``2m`` or plain seconds; ValueError otherwise."""
    match = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)\s*(us|ms|s|m|h|d|)", text.strip())
    if not match:
        raise ValueError(f"{text!r} is not a duration; write 100ms, 1.5s, 2m, 1h or 14d")
    return float(match[1]) * _SECONDS[match[2]]


def parse_size(text: str) -> int:
    """Read ``100``, ``10KB`` or ``6MB`` as bytes; ValueError otherwise."""
    match = re.fullmatch(r"(\d+)\s*(b|kb|mb|)", text.strip().lower())
    if not match:
        raise ValueError(f"{text!r} is not a size; write 100, 10KB or 6MB")
    return int(match[1]) * _BYTES[match[2]]


def parse_latency(text: str) -> Callable[[float], float]:
    """Read a latency as a function of a random number: fixed, ``uniform(a,b)`` or ``lognormal(p50,p99)``."""
    match = re.fullmatch(r"(uniform|lognormal)\(([^,]+),([^,]+)\)", text.replace(" ", ""))
    if not match:
        if "(" in text:
            raise ValueError(
                "write 100ms, uniform(50ms,150ms) or lognormal(p50,p99) as in lognormal(100ms,2s)"
            )
        fixed_s = parse_duration(text)
        return lambda _u: fixed_s
    low_s, high_s = parse_duration(match[2]), parse_duration(match[3])
    if low_s > high_s or (match[1] == "lognormal" and low_s <= 0):
        raise ValueError("the first figure must be the smaller one, and above 0 for lognormal")
    if match[1] == "uniform":
        return lambda u: low_s + (high_s - low_s) * u
    from statistics import NormalDist

    sigma = math.log(high_s / low_s) / _Z99
    quantile = NormalDist().inv_cdf
    return lambda u: low_s * math.exp(sigma * quantile(min(max(u, 1e-12), 1 - 1e-12)))


def parse_windows(text: str) -> tuple[Window, ...]:
    """Read ``10s@5s``: for 10 s, from 5 s after the function's first call on; several joined by ``+``."""
    windows = []
    for part in text.split("+"):
        length, at, start = part.partition("@")
        if not at:
            raise ValueError("write LENGTH@START, as 10s@5s: for 10 s, from 5 s after the first call on")
        windows.append(Window(parse_duration(start), parse_duration(length)))
    return tuple(windows)


def parse_execution_timeout(text: str) -> float:
    """Read a durable function's ExecutionTimeout."""
    seconds = parse_duration(text)
    if not 1 <= seconds <= MAX_EXECUTION_S:
        raise ValueError("an execution may take 1s to 366d")
    return seconds


def parse_retention(text: str) -> float:
    """Read how long the name of a durable execution is kept; shorter than Lambda's day, for rehearsals."""
    seconds = parse_duration(text)
    if seconds > MAX_RETENTION_S:
        raise ValueError("a retention is at most 90d")
    return seconds


def parse_destination(text: str) -> str:
    """Read the ARN of a queue or a topic."""
    if not DESTINATION.fullmatch(text):
        raise ValueError("write the ARN of an SQS queue or an SNS topic")
    return text


def _retries(text: str) -> int:
    if text not in {"0", "1", "2"}:
        raise ValueError("Event calls are tried again 0, 1 or 2 times")
    return int(text)


def _event_age(text: str) -> float:
    seconds = parse_duration(text)
    if not 60 <= seconds <= 21_600:
        raise ValueError("an event's age is 60s to 6h")
    return seconds


def _rate(text: str) -> float:
    rate = float(text[:-1]) / 100 if text.endswith("%") else float(text)
    if not 0 <= rate <= 1:
        raise ValueError("a rate is 0 to 1, or 0% to 100%")
    return rate


def _count(text: str) -> int:
    count = int(text)
    if count < 0:
        raise ValueError("must not be negative")
    return count


def _output(text: str) -> bytes | None:
    if text == "echo":
        return None
    try:
        msgspec.json.decode(text)
    except msgspec.DecodeError:
        raise ValueError("output is JSON, or echo") from None
    return text.encode()


def _aliases(text: str) -> dict[str, str]:
    pairs = [pair.partition(":") for pair in text.split("+")]
    if not all(name and version for name, _, version in pairs):
        raise ValueError("write alias=live:2, or alias=live:2+next:3")
    return {name: version for name, _, version in pairs}


_SETTERS: dict[str, tuple[str, Callable[[str], object]]] = {
    "name": ("name", str),
    "latency": ("latency", parse_latency),
    "init": ("init_s", parse_duration),
    "error_rate": ("error_rate", _rate),
    "error_type": ("error_type", str),
    "error_message": ("error_message", str),
    "lost_rate": ("lost_rate", _rate),
    "runs_on": ("runs_on_s", parse_duration),
    "reset_rate": ("reset_rate", _rate),
    "throttle_rate": ("throttle_rate", _rate),
    "output": ("output", _output),
    "chunks": ("chunks", _count),
    "concurrency": ("concurrency", _count),
    "timeout": ("timeout_s", parse_duration),
    "memory": ("memory_mb", _count),
    "versions": ("versions", _count),
    "alias": ("aliases", _aliases),
    "pending": ("pending_s", parse_duration),
    "inactive": ("inactive_s", parse_duration),
    "failed": ("failed", str),
    "outage": ("outages", parse_windows),
    "refuse": ("refusals", parse_windows),
    "poison_rate": ("poison_rate", _rate),
    "item_error_rate": ("item_error_rate", _rate),
    "durable": ("durable_s", parse_execution_timeout),
    "retention": ("retention_s", parse_retention),
    "on_success": ("on_success", parse_destination),
    "on_failure": ("on_failure", parse_destination),
    "dead_letter": ("dead_letter", parse_destination),
    "event_retries": ("event_retries", _retries),
    "event_age": ("event_age_s", _event_age),
}


def _split(text: str) -> list[str]:
    """Split at commas outside brackets and quotes, so that JSON and lognormal(a,b) stay whole."""
    parts, depth, in_string, start = [], 0, False, 0
    for at, char in enumerate(text):
        if char == '"' and text[at - 1 : at] != "\\":
            in_string = not in_string
        elif not in_string and char in "([{":
            depth += 1
        elif not in_string and char in ")]}":
            depth -= 1
        elif char == "," and depth == 0 and not in_string:
            parts.append(text[start:at])
            start = at + 1
    return [part for part in [*parts, text[start:]] if part.strip()]


def _wrong(text: str, part: str, advice: str) -> EmulatorError:
    return EmulatorError(f"--simulate {text!r}: {part.strip()!r}: {advice}")
