"""The running time of a run: the time within its sessions, without the pauses between them."""

from __future__ import annotations


class RunningClock:
    """Maps Unix time to running time. It never runs backwards, whatever the system's clock does.

    ``now_s`` is the running time that was ticked last.
    """

    def __init__(self, begun_s: float) -> None:
        self.now_s = 0.0
        self._sessions = [(begun_s, 0.0)]  # (Unix time, running time) of each beginning

    def begin(self, unix_s: float) -> None:
        """A session begins: the time since the last tick was a pause."""
        self._sessions.append((unix_s, self.now_s))

    def set_start(self, unix_s: float) -> None:
        """The first session began then; for a start that is learnt late."""
        self._sessions[0] = (unix_s, 0.0)

    def tick(self, unix_s: float) -> None:
        """Move on to a moment, or stand still where the system's clock was set back."""
        self.now_s = max(self.at(unix_s), self.now_s)

    def at(self, unix_s: float) -> float:
        """The running time at any moment; before the first session it is negative."""
        begun_s, base_s = self._sessions[0]
        for begun, base in self._sessions[1:]:
            if unix_s < begun:
                break
            begun_s, base_s = begun, base
        return base_s + unix_s - begun_s
