"""A consecutive-failure breaker: no calls but a probe while a function does nothing but fail."""

from __future__ import annotations

from fanout.errors import ConfigError

_FIRST_WAIT_S = 1.0
_LONGEST_WAIT_S = 60.0


class Breaker:
    """Closed until ``threshold`` outcomes in a row are no successes; then one probe at a time.

    After the n-th failed probe the next waits 1, 2, 4 … up to 60 seconds; a probe that succeeds
    closes it again. The circuit breaker of Nygard's "Release It!". Never reads a clock.
    """

    def __init__(self, threshold: int) -> None:
        if threshold < 1:
            raise ConfigError(f"breaker is {threshold}: give a whole number from 1")
        self._threshold = threshold
        self._failures_in_row = 0
        self._probe_at_s: float | None = None
        self._wait_s = _FIRST_WAIT_S
        self._is_probing = False

    @property
    def is_open(self) -> bool:
        """True while only probes are admitted."""
        return self._probe_at_s is not None

    @property
    def probe_at_s(self) -> float | None:
        """The moment of the next probe, in seconds; None while closed, or while a probe is out."""
        return None if self._is_probing else self._probe_at_s

    def admits(self, now_s: float) -> bool:
        """True if one more call may go out now."""
        if self._probe_at_s is None:
            return True
        return not self._is_probing and now_s >= self._probe_at_s

    def on_sent(self) -> bool:
        """A call goes out. While open it is the probe; returns whether it is."""
        if self._probe_at_s is not None:
            self._is_probing = True
        return self._is_probing

    def on_silent_probe(self) -> None:
        """The probe said nothing (a throttle): let another try."""
        self._is_probing = False

    def on_outcome(self, is_success: bool, now_s: float, *, is_probe: bool = False) -> None:
        """Learn from one finished record, or from a probe that is to be repeated.

        While open, failures of calls that were sent before say nothing new.
        """
        if is_success:
            self._failures_in_row = 0
            self._probe_at_s = None
            self._is_probing = False
            self._wait_s = _FIRST_WAIT_S
            return
        self._failures_in_row += 1
        if self._probe_at_s is None:
            if self._failures_in_row >= self._threshold:
                self._probe_at_s = now_s + self._wait_s
        elif is_probe:
            self._wait_s = min(self._wait_s * 2, _LONGEST_WAIT_S)
            self._probe_at_s = now_s + self._wait_s
            self._is_probing = False
