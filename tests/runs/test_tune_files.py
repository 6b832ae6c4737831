"""The two files by which a running run is changed: what is refused, garbage, and a directory that is gone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from fanout.errors import ConfigError, JournalError
from fanout.runs.tuning import ASK_FILE, TuneInbox, TuneRequest, tuning_of

TUNING = tuning_of({"rate": 5.0})


def test_a_change_of_nothing_is_refused() -> None:
    """Before anything is written."""
    with pytest.raises(ConfigError, match="there is nothing to change: give an option"):
        tuning_of({})


def test_what_a_run_refuses_is_raised_where_it_was_asked(tmp_path: Path) -> None:
    """With the run's words; another's answer is not taken for it."""

    def refuse(_: Mapping[str, Any]) -> Mapping[str, Any]:
        raise ConfigError("rate is 5.0: not now")

    inbox = TuneInbox(tmp_path)
    request, other = TuneRequest(tmp_path, TUNING), TuneRequest(tmp_path, TUNING)
    request.send()
    assert request.answer() is None
    inbox.poll(refuse)
    assert other.answer() is None
    with pytest.raises(ConfigError, match=r"rate is 5\.0: not now"):
        request.answer()


def test_garbage_in_the_file_changes_nothing(tmp_path: Path) -> None:
    """It is taken away, so that it is looked at once."""
    inbox = TuneInbox(tmp_path)
    for garbage in (b"{", b"\xff", b'{"id":1}'):
        (tmp_path / ASK_FILE).write_bytes(garbage)
        inbox.poll(lambda _: pytest.fail("nothing was asked"))
        assert not (tmp_path / ASK_FILE).exists()


def test_a_directory_that_is_gone_is_named(tmp_path: Path) -> None:
    """Rather than waited for."""
    with pytest.raises(JournalError, match="cannot be written: No such file or directory"):
        TuneRequest(tmp_path / "gone", TUNING).send()
