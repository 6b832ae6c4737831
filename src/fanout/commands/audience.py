"""Who watches a run: a progress display, callbacks, and the signals that end it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fanout.model import Outcome
from fanout.runs import Run
from fanout.stats import Snapshot


@dataclass(slots=True, kw_only=True)
class Audience:
    """All members are optional; each is called in the event loop and must be quick.

    ``attach`` gets the run before it starts, so that a signal can stop it, and returns what detaches.
    """

    on_outcome: Callable[[Outcome], None] | None = None
    on_snapshot: Callable[[Snapshot], None] | None = None
    snapshot_every_s: float = 0.2
    on_message: Callable[[str], None] | None = None
    attach: Callable[[Run], Callable[[], None]] | None = None

    def say(self, text: str) -> None:
        """One line for the person, if one listens."""
        if self.on_message is not None:
            self.on_message(text)
