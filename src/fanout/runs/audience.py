"""The audience of a run: everyone who hears of its course, and what they may do with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec

from fanout.dispatcher import IntakeDispatcher
from fanout.model import Outcome
from fanout.runs.tuning import Tuning
from fanout.stats import Snapshot


class Stoppable(Protocol):
    """Work that goes on: a run, or a collection of results."""

    @property
    def draining(self) -> str:
        """The effect of a first signal, in words."""
        ...

    @property
    def is_stopping(self) -> bool:
        """True once ``stop`` was called, by whomever."""
        ...

    def stop(self, reason: str, message: str = "") -> None:
        """Begin nothing new; what is under way finishes."""
        ...

    def cut(self) -> None:
        """End at once."""
        ...

    def tune(self, changes: Mapping[str, Any]) -> Mapping[str, Any]:
        """Change options; returns those in force. Raises ConfigError."""
        ...


class Audience(msgspec.Struct, frozen=True, kw_only=True):
    """All members are optional; each is called in the event loop and must be quick.

    ``on_outcome`` and ``on_outcomes`` get outcomes once they are written, one by one or as they were.
    ``attach`` gets the run before it starts, so that a signal can stop it, and returns what detaches.
    ``listen`` is called before there is a run on the disk, with its directory: a signal from then on is
    the run's.
    """

    on_outcome: Callable[[Outcome], None] | None = None
    on_outcomes: Callable[[Sequence[Outcome]], None] | None = None
    on_snapshot: Callable[[Snapshot], None] | None = None
    snapshot_every_s: float = 0.2
    on_started: Callable[[IntakeDispatcher], None] | None = None
    on_tuned: Callable[[Tuning, Mapping[str, Any]], None] | None = None
    on_message: Callable[[str], None] | None = None
    on_note: Callable[[str], None] | None = None  # what is good to know where somebody looks on
    attach: Callable[[Stoppable], Callable[[], None]] | None = None
    listen: Callable[[Path], None] | None = None

    def hear(self, outcomes: Sequence[Outcome]) -> None:
        """Hand outcomes on."""
        if self.on_outcomes is not None:
            self.on_outcomes(outcomes)
        if self.on_outcome is not None:
            for outcome in outcomes:
                self.on_outcome(outcome)

    def heed_signals(self, run_dir: Path) -> None:
        """Keep a signal for the run that begins now, in this directory."""
        if self.listen is not None:
            self.listen(run_dir)

    def note(self, text: str) -> None:
        """One line for whoever watches the progress."""
        if self.on_note is not None:
            self.on_note(text)

    def say(self, text: str) -> None:
        """One line for the person, if one listens."""
        if self.on_message is not None:
            self.on_message(text)
