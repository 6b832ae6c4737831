"""State of a function (Active, Pending, Inactive, Failed), and windows without it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of time, counted from a function's first call."""

    start_s: float
    length_s: float

    def holds(self, elapsed_s: float) -> bool:
        """Say whether the moment lies within."""
        return self.start_s <= elapsed_s < self.start_s + self.length_s


@dataclass(frozen=True, slots=True)
class State:
    """The state that GetFunction reports; ``code`` and ``reason`` are empty for an active function."""

    name: str = "Active"
    code: str = ""
    reason: str = ""


_ACTIVE = State()
_CREATING = State("Pending", "Creating", "The function is being created.")
_RESTORING = State("Pending", "Restoring", "The function is being restored.")
_IDLE = State("Inactive", "Idle", "The function has been idle.")


class Lifecycle:
    """The state of one function over time. ``now_s``: seconds of any one monotonic clock.

    Pending for ``pending_s`` from the start; or inactive until its first call, and then pending for
    ``inactive_s``; or failed for good, with ``failed`` as its reason code.
    """

    __slots__ = ("_failed", "_first_call_s", "_inactive_s", "_outages", "_pending_until_s")

    def __init__(
        self,
        now_s: float,
        *,
        pending_s: float = 0.0,
        inactive_s: float = 0.0,
        failed: str = "",
        outages: Sequence[Window] = (),
    ) -> None:
        self._pending_until_s = now_s + pending_s
        self._inactive_s = inactive_s
        self._failed = State("Failed", failed, f"The function has failed: {failed}.") if failed else None
        self._outages = outages
        self._first_call_s: float | None = None

    def state(self, now_s: float) -> State:
        """Report the state, changing nothing."""
        if self._failed is not None:
            return self._failed
        if now_s < self._pending_until_s:
            return _RESTORING if self._inactive_s else _CREATING
        if self._inactive_s and self._first_call_s is None:
            return _IDLE
        return _ACTIVE

    def on_call(self, now_s: float) -> State:
        """Take note of a call, which wakes an inactive function, and report the state it meets."""
        if self._first_call_s is None:
            if self._inactive_s:
                self._pending_until_s = now_s + self._inactive_s
            self._first_call_s = now_s
        return self.state(now_s)

    def is_out(self, now_s: float) -> bool:
        """Say whether the function cannot be reached now."""
        if not self._outages or self._first_call_s is None:
            return False
        return any(window.holds(now_s - self._first_call_s) for window in self._outages)
