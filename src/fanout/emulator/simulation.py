"""Simulated functions: latency, faults and output, drawn from a seed.

Pure: ``draw`` decides, the caller sleeps and answers. Two random numbers per call, in order of
arrival, whatever the outcome: with one seed, the n-th call of a function always fares the same.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

import msgspec

from fanout.errors import EmulatorError

_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "": 1.0}
_BYTES = {"": 1, "b": 1, "kb": 1_024, "mb": 1_024 * 1_024}
_Z99 = 2.3263478740408408  # the normal distribution's 99th percentile
SIMULATED_TIMEOUT_S = 900.0


class Fault(Enum):
    """What goes wrong with one simulated call."""

    NONE = "none"
    ERROR = "function error"
    LOST = "reply lost"
    RESET = "connection reset"
    STATUS = "HTTP status"


@dataclass(frozen=True, slots=True)
class Draw:
    """One call's fate. ``status`` is set with ``Fault.STATUS`` only: that call does not run."""

    latency_s: float
    fault: Fault
    status: int = 0


@dataclass(slots=True, kw_only=True)
class Simulation:
    """A function that needs no code. Rates are 0 to 1, and together at most 1."""

    name: str = "simulated"
    latency: Callable[[float], float] = lambda u: 0.0  # noqa: ARG005, E731, RUF100
    init_s: float = 0.0
    error_rate: float = 0.0
    error_type: str = "SimulatedError"
    error_message: str = "simulated failure"
    lost_rate: float = 0.0
    runs_on_s: float = 0.0
    reset_rate: float = 0.0
    status_rates: dict[int, float] = field(default_factory=dict)
    output: bytes | None = None
    chunks: int = 1
    concurrency: int | None = None
    timeout_s: float = SIMULATED_TIMEOUT_S
    memory_mb: int = 128
    versions: int = 0
    aliases: dict[str, str] = field(default_factory=dict)

    def faults(self) -> list[tuple[float, Fault, int]]:
        """Lay the faults out on 0 to 1: each with the upper end of its share."""
        upper, table = 0.0, []
        shares = [
            (self.error_rate, Fault.ERROR, 0),
            (self.lost_rate, Fault.LOST, 0),
            (self.reset_rate, Fault.RESET, 0),
        ]
        shares += [(rate, Fault.STATUS, status) for status, rate in self.status_rates.items()]
        for rate, fault, status in shares:
            if rate:
                upper += rate
                table.append((upper, fault, status))
        return table


class Dice:
    """Draws the fates of one simulated function's calls."""

    __slots__ = ("_faults", "_latency", "_random")

    def __init__(self, simulation: Simulation, seed: int) -> None:
        self._latency = simulation.latency
        self._faults = simulation.faults()
        self._random = random.Random(f"{seed}:{simulation.name}").random  # noqa: S311 - a simulation, no secret

    def draw(self) -> Draw:
        """Decide the next call."""
        latency_s = self._latency(self._random())
        chance = self._random()
        for upper, fault, status in self._faults:
            if chance < upper:
                return Draw(latency_s, fault, status)
        return Draw(latency_s, Fault.NONE)


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
    match = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)\s*(us|ms|s|m|)", text.strip())
    if not match:
        raise ValueError(f"{text!r} is no duration; write 100ms, 1.5s or 2m")
    return float(match[1]) * _SECONDS[match[2]]


def parse_size(text: str) -> int:
    """Read ``100``, ``10KB`` or ``6MB`` as bytes; ValueError otherwise."""
    match = re.fullmatch(r"(\d+)\s*(b|kb|mb|)", text.strip().lower())
    if not match:
        raise ValueError(f"{text!r} is no size; write 100, 10KB or 6MB")
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
    "output": ("output", _output),
    "chunks": ("chunks", _count),
    "concurrency": ("concurrency", _count),
    "timeout": ("timeout_s", parse_duration),
    "memory": ("memory_mb", _count),
    "versions": ("versions", _count),
    "alias": ("aliases", _aliases),
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
