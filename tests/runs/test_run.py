"""A run by itself: how it is stopped, cut off and changed from outside, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from fanout.commands.options import Given, RunOptions
from fanout.commands.workers import make_dispatcher
from fanout.errors import ConfigError
from fanout.model import Outcome
from fanout.runs import Audience, Intake, PassingLedger
from fanout.runs.ledger import OnCommit, OnFailure
from fanout.runs.run import Run, ThrottleCount
from fanout.runs.spending import Spending
from fanout.runs.stop_rules import StopRules
from fanout.stats import Stats
from tests.scripted import Scripted

pytestmark = [pytest.mark.looptime, pytest.mark.usefixtures("no_task_left")]


class _Broken(PassingLedger):
    """Ends by an error of its own."""

    async def run(self) -> None:
        await asyncio.sleep(0.25)
        raise RuntimeError("of the ledger")


class _Watched:
    """A run of calls of 100 ms, two at once; ``at`` is called when so many records have an outcome."""

    def __init__(
        self, *, ledger: type[PassingLedger] = PassingLedger, deadline_s: float | None = None
    ) -> None:
        self.at: dict[int, Callable[[], object]] = {}
        self.outcomes: list[Outcome] = []
        options = RunOptions.of("f", cast(Given, {"transport": Scripted(latency_s=0.1), "concurrency": 2}))
        stats = Stats(started_s=0.0)

        def hear(outcome: Outcome) -> None:
            self.outcomes.append(outcome)
            if act := self.at.get(len(self.outcomes)):
                act()

        async def open_ledger(on_commit: OnCommit, _: OnFailure) -> PassingLedger:
            return ledger(on_commit)

        self.run = Run(
            make_dispatcher(
                options, hooks=ThrottleCount(stats), run_id=None, generation=0, audience=Audience()
            ),
            open_ledger=open_ledger,
            stats=stats,
            spending=Spending(RunOptions.of("f", Given()).price_table()),
            rules=StopRules(),
            audience=Audience(on_outcome=hear),
            deadline_s=deadline_s,
            started_s=0.0,
        )

    async def execute(self, count: int = 100) -> Any:
        return await self.run.execute(Intake(payloads=iter(range(count))))


async def test_the_first_reason_to_stop_stays() -> None:
    """And nothing is changed any more; nor before the first call."""
    watched = _Watched()
    with pytest.raises(ConfigError, match="the run is about to end, or has not begun"):
        watched.run.tune({"rate": 5})

    def stop() -> None:
        watched.run.stop("sigterm")
        watched.run.stop("deadline")
        with pytest.raises(ConfigError, match="nothing can be changed"):
            watched.run.tune({"rate": 5})

    watched.at[4] = stop
    result = await watched.execute()
    assert (result.stop.reason, result.exit_code) == ("sigterm", 143)
    assert 4 <= result.counts["succeeded"] <= 30
    assert result.pending == 0


async def test_another_deadline_takes_the_place_of_the_first() -> None:
    """And the next one the place of that."""
    watched = _Watched(deadline_s=0.35)
    in_force: list[dict[str, Any]] = []

    def tune() -> None:
        in_force.append(watched.run.tune({"deadline": 100}))
        in_force.append(watched.run.tune({"deadline": 2}))

    watched.at[2] = tune
    result = await watched.execute()
    assert [each["deadline"] for each in in_force] == [100, 2]
    assert result.stop.reason == "deadline"
    assert 36 <= result.counts["succeeded"] <= 60


async def test_one_that_is_cut_off_before_its_first_call_makes_none() -> None:
    """As by a second signal while it began."""
    watched = _Watched()
    watched.run.cut()
    result = await watched.execute()
    assert (result.stop.reason, result.exit_code, result.counts) == ("sigint", 130, {})
    assert result.records_read == result.pending


async def test_one_that_is_cancelled_ends_by_that() -> None:
    """No call goes on behind it."""
    watched = _Watched()
    running = asyncio.create_task(watched.execute())
    watched.at[4] = running.cancel
    with pytest.raises(asyncio.CancelledError):
        await running
    assert len(watched.outcomes) < 30


async def test_an_error_of_its_own_comes_out_alone() -> None:
    """Not in a group, whose members nobody catches."""
    watched = _Watched(ledger=_Broken)
    with pytest.raises(RuntimeError, match="of the ledger"):
        await watched.execute()
