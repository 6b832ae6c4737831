"""The changes that a later session of a run asks for, and the options that it then has."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Literal, cast

import msgspec

from fanout.commands.options import KEPT_ON_RESUME, Given, RunOptions, is_batched, kept_in
from fanout.errors import ConfigError
from fanout.quantities import unix_s

MayHaveRun = Literal["send", "skip"]
Ask = Callable[[int], MayHaveRun]


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """Options that differ from run.json's, and the answer for records that may have run.

    ``fallback`` comes from the environment or ``--config``: it holds where run.json says nothing. ``ask``
    is called with the number of records that may have run when nothing else decides; without it they are
    skipped.
    """

    given: Given = msgspec.field(default_factory=Given)
    fallback: Given = msgspec.field(default_factory=Given)
    may_have_run: MayHaveRun | None = None
    ask: Ask | None = None

    @property
    def accepts_lost_mark(self) -> bool:
        """True if the person has said what to take a damaged mark for."""
        return self.may_have_run is not None

    def decide(self, count: int, options: RunOptions, state: Mapping[str, Any]) -> MayHaveRun:
        """The decision on ``count`` records that may have run."""
        if self.may_have_run is not None:
            return self.may_have_run
        if options.calls.idempotent or not count or _starts_once(options, state):
            return "send"
        return "skip" if self.ask is None else self.ask(count)


def changed_options(state: Mapping[str, Any], changes: Changes) -> RunOptions:
    """The options of a run that goes on: those of run.json, changed.

    Raises JournalError for a damaged run.json, ConfigError for options that cannot be changed.
    """
    function, kept = kept_in(state)
    given = changes.given
    before: Mapping[str, object] = kept
    for name, value in given.items():
        if name in KEPT_ON_RESUME and before.get(name) != value:
            held = "not set" if before.get(name) is None else repr(before[name])
            raise ConfigError(f"{name} cannot be changed now, as it changes what is sent: it is {held}")
    if "batch" in given and is_batched(cast(Given, {**kept, **given})) != is_batched(kept):
        held = f"it is {kept['batch']}: give 2 or more" if is_batched(kept) else "the run has none"
        raise ConfigError(f"batch cannot be changed now, as it changes what is sent: {held}")
    # Nothing that changes what is sent comes from elsewhere, as the run has begun without it.
    fallback = {
        name: value
        for name, value in changes.fallback.items()
        if name not in KEPT_ON_RESUME and name != "batch"
    }
    if "transport" in fallback:
        kept.pop("transport", None)  # it is kept even where nobody chose it
    if given.get("scheduler") is not None:
        kept.pop("workers", None)
    return RunOptions.of(function, cast(Given, {**fallback, **kept, **given}))


def _starts_once(options: RunOptions, state: Mapping[str, Any]) -> bool:
    """True if a call that may have run has a name that brings it back: not after the retention."""
    days, started = state.get("durable_retention_days"), state.get("started_at")
    if not options.durable or not isinstance(days, int):
        return False
    return time.time() - unix_s(str(started or "")) < days * 86_400
