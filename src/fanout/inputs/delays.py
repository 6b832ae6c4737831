"""What is said of a server that keeps an input waiting: one line, and not for every moment's trouble."""

from __future__ import annotations

from collections.abc import Callable

NOTABLE_S = 1.0  # a shorter wait is no news
SILENT_S = 5.0  # without a byte
_BETWEEN_S = 15.0  # two lines about one input


class Delays:
    """Words for the waits of one input, where they are worth a line. Never reads a clock."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._said_at_s: float | None = None

    def repeats(self, now_s: float, reason: str, wait_s: float) -> None:
        """A request has failed, and is made again after so long."""
        if wait_s >= NOTABLE_S:
            self._tell(now_s, f"{reason.rstrip('.')}; waiting")

    def is_silent(self, now_s: float) -> None:
        """A request has had no answer, or no further byte, for ``SILENT_S``."""
        self._tell(now_s, f"nothing came for {SILENT_S:.0f} s; waiting")

    def _tell(self, now_s: float, text: str) -> None:
        if self._said_at_s is None or now_s - self._said_at_s >= _BETWEEN_S:
            self._said_at_s = now_s
            self._say(text)
