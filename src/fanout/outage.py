"""Outage policy: when a run pauses because nothing is answered, when it probes, and when it goes on.

An outage begins when attempts of three different records have failed in a row with no answer between
them, when the function is not ready (Pending, Inactive), or when a refusal that befalls every record
alike comes after successes. One call at a time probes, after 1, 2, 4 … 30 s; the first answer ends it.
A call that fails in an outage did not run, and spends no attempt. A throttle is an answer, but no
progress: outages with nothing but throttles between them are one to the patience. Never reads a clock.
"""

from __future__ import annotations

from collections.abc import Hashable

from fanout.errors import ConfigError
from fanout.model import Classification, Verdict

RECORDS = 3  # different ones whose attempts fail in a row: one that always fails is no outage
FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 30.0
CONFIRMATIONS = 3  # probes that are refused before a refusal is believed
DEFAULT_PATIENCE_S = 900.0
_MOMENT_S = 0.001
STRETCH_S = 30.0  # outages less far apart are one stretch, announced once

# Codes of a function that is not ready yet, without their "Exception" suffix.
_NOT_READY = frozenset(
    {
        "ResourceConflict",
        "ResourceNotReady",
        "SnapStartNotReady",
        "SnapStartRegenerationFailure",
        "CodeArtifactUserPending",
        "ENINotReady",
    }
)


class Outage:
    """The state of one engine's outages.

    ``patience_s`` counts from the beginning of the first one since something went forward: a call that
    ran, or was refused for a reason of its own.
    """

    def __init__(self, patience_s: float = DEFAULT_PATIENCE_S) -> None:
        if not patience_s >= 0:
            raise ConfigError(f"outage_patience is {patience_s!r}: give seconds from 0")
        self.patience_s = patience_s
        self._failed: set[Hashable] = set()  # records that failed since the last answer
        self._began_s: float | None = None
        self._since_s: float | None = None  # when the first outage since the last progress began
        self._is_mixed = False  # other ends than refusals have come since
        self._wait_s = FIRST_WAIT_S
        self._probe_at_s = 0.0
        self._is_probing = False
        self._refusals = 0  # probes that were refused since the refusal came
        self._ended_s = float("-inf")
        self._is_announced = False
        self.is_on = False  # calls wait for an answer to a probe; read for every call
        self.cause = ""  # why it waits, in words
        self.is_refusal = False

    @property
    def probe_at_s(self) -> float | None:
        """The moment of the next probe, in seconds; None outside of an outage, and while a probe is out."""
        return None if self._began_s is None or self._is_probing else self._probe_at_s

    def admits(self, now_s: float) -> bool:
        """True if a probe may go out now."""
        return self._began_s is not None and not self._is_probing and now_s >= self._probe_at_s

    def begin(self, cause: str, now_s: float, *, wait_s: float = FIRST_WAIT_S) -> None:
        """Pause; the first probe goes out after ``wait_s``."""
        if self._began_s is None:
            self._began_s = now_s
            self.is_on = True
            if self._since_s is None:
                self._since_s = now_s
                self._wait_s = FIRST_WAIT_S
            else:
                wait_s = min(self._wait_s, self._left_s(now_s))
            self._probe_at_s = now_s + wait_s
        self.cause = cause

    def on_answer(self) -> bool:
        """Lambda or the function answered. Returns whether that ends an outage."""
        if self._failed:
            self._failed.clear()
        if self._began_s is None:
            return False
        self._began_s = None
        self.is_on = self._is_probing = False
        self.is_refusal = False
        self._is_mixed = True
        self._refusals = 0
        return True

    def on_progress(self) -> bool:
        """A call ran, or was refused for a reason of its own. Returns whether that ends an outage."""
        is_end = self.on_answer()
        self._since_s = None
        self._is_mixed = False
        return is_end

    def on_idle(self, now_s: float) -> None:
        """Nothing was asked for until now: the patience with what may come begins now."""
        self._since_s = None if self._began_s is None else now_s

    def on_failure(self, record: Hashable, end: Classification, now_s: float, *, is_probe: bool) -> bool:
        """An attempt ended TRANSIENT, or refused like every other. Returns whether it spends no attempt."""
        error = end.error
        code = "" if error is None else error.type
        cause = code if error is None or not error.message else f"{code}: {error.message}"
        if end.verdict is Verdict.FATAL:
            self.is_refusal = True
            self._refusals += is_probe
            self.begin(cause, now_s)
        elif code.removesuffix("Exception") in _NOT_READY:
            self.is_refusal = False
            self._is_mixed = True
            self.begin(cause, now_s)
        else:
            self._failed.add(record)
            if self._began_s is None and len(self._failed) < RECORDS:
                return False
            if is_probe:
                self.is_refusal = False
                self._is_mixed = True
            self.begin(cause, now_s)
        if is_probe:
            self.on_probe_over(now_s)
        return True

    def announces_pause(self, now_s: float) -> bool:
        """True if it is time to say that calls wait: once for a stretch of outages, and for a long one."""
        began_s = self._began_s
        if began_s is None or self._is_announced:
            return False
        if began_s - self._ended_s < STRETCH_S and now_s - began_s < STRETCH_S:
            return False
        self._is_announced = True
        return True

    def announces_end(self, now_s: float) -> bool:
        """True if it is to be said now that calls go on: at the end of a pause that was announced."""
        self._ended_s = now_s
        was_announced, self._is_announced = self._is_announced, False
        return was_announced

    def on_probe_sent(self) -> None:
        """The probe is on its way."""
        self._is_probing = True

    def on_probe_over(self, now_s: float) -> None:
        """The probe brought no answer: the next waits twice as long, and never past the patience."""
        self._is_probing = False
        if self._began_s is not None:
            self._wait_s = min(self._wait_s * 2, LONGEST_WAIT_S)
            self._probe_at_s = now_s + min(self._wait_s, self._left_s(now_s))

    def is_exhausted(self, now_s: float) -> bool:
        """True when it is time to stop: the patience is used up, or a refusal was confirmed."""
        if self._began_s is None or self._since_s is None:
            return False
        return self._is_confirmed or now_s - self._since_s >= self.patience_s

    @property
    def stops_by_refusal(self) -> bool:
        """True if stopping now is for a refusal: a confirmed one, or one that nothing else came between."""
        return self.is_refusal and (self._is_confirmed or not self._is_mixed)

    @property
    def _is_confirmed(self) -> bool:
        return self.is_refusal and self._refusals >= CONFIRMATIONS

    def _left_s(self, now_s: float) -> float:
        """The seconds left of the patience, at the least a moment."""
        since_s = now_s if self._since_s is None else self._since_s
        return max(since_s + self.patience_s - now_s, _MOMENT_S)
