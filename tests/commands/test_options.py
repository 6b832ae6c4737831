"""Options of runs: values that are refused, what run.json holds of them, and what a resume makes of both."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from fanout.commands.changes import Changes, changed_options
from fanout.commands.collection import Collection, CollectionStop
from fanout.commands.options import Given, RunOptions, options_of
from fanout.errors import ConfigError, JournalError


def _of(**given: Any) -> RunOptions:
    return RunOptions.of("f", cast(Given, given))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"fsync": "sometimes"}, "fsync is 'sometimes': give second | always | never"),
        ({"payload": "1", "repeat": -1}, "repeat is -1: give a whole number from 0"),
        ({"payload": "1", "repeat": True}, "repeat is True"),
        ({"repeat": 3}, "repeat goes with payload: give both"),
        ({"invocation": "later"}, "invocation is 'later': give 'stream'"),
    ],
)
def test_a_value_that_is_wrong_is_named(given: dict[str, Any], said: str) -> None:
    """With what is allowed, before anything of the run is made."""
    with pytest.raises(ConfigError, match=said):
        _of(**given)


def test_what_run_json_holds_is_taken_or_called_damaged() -> None:
    """A header may be any sequence; a streamed reply had another name in 0.1."""
    assert _of(csv_header=("a", "b")).csv_header == ["a", "b"]
    kept = {"invocation": "stream", "csv_header": ["a"], "of_a_later_version": 1}
    assert options_of({"function": "f", "options": kept}).calls.stream
    states: list[dict[str, Any]] = [{"options": {}}, {"function": "f", "options": []}]
    for damaged in states:
        with pytest.raises(JournalError, match=r"run\.json is damaged: function or options are missing"):
            options_of(damaged)


def test_a_transport_of_today_and_another_cluster_come_before_those_of_the_run() -> None:
    """The one is kept though nobody chose it, and the other is not of this machine."""
    state = {"function": "f", "options": {"transport": "direct", "workers": 4}}
    changed = changed_options(state, Changes(fallback=Given(transport="sdk")))
    assert (changed.calls.transport, changed.workers) == ("sdk", 4)
    changed = changed_options(state, Changes(given=Given(scheduler="tcp://127.0.0.1:1")))
    assert (changed.calls.transport, changed.workers) == ("direct", None)


@pytest.mark.parametrize(("days_ago", "decision"), [(1, "send"), (9, "skip")])
def test_a_durable_name_brings_a_call_back_for_as_long_as_it_is_kept(days_ago: int, decision: str) -> None:
    """Nobody need be asked; after the retention the name stands for nothing."""
    started_at = datetime.fromtimestamp(time.time(), UTC) - timedelta(days=days_ago)
    state = {"durable_retention_days": 7, "started_at": started_at.isoformat()}
    assert Changes().decide(3, _of(durable=True), state) == decision
    assert Changes().decide(3, _of(), state) == "skip"


def test_a_collection_waits_for_no_less_than_nothing() -> None:
    """And is stopped by a second signal as by the first."""
    with pytest.raises(ConfigError, match=r"wait is -1\.0: give seconds from 0"):
        Collection(wait_s=-1.0)
    stop = CollectionStop()
    stop.cut()
    assert (stop.is_stopping, stop.reason) == (True, None)
    with pytest.raises(ConfigError, match="nothing can be changed"):
        stop.tune({"rate": 5})
