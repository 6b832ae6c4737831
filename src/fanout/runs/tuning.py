"""Changes of a run while it goes on, and the files by which another process asks for them.

The asker writes ``tune.json``; the run applies it, answers in ``tuned.json`` and removes it. Both belong
to one session: what an earlier one left unanswered is removed, never applied.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from fanout.config import Options, parse_concurrency
from fanout.errors import ConfigError, JournalError
from fanout.private_files import write_whole
from fanout.runs.stop_rules import StopRules

ASK_FILE = "tune.json"
ANSWER_FILE = "tuned.json"


class Tuning(msgspec.Struct, frozen=True, kw_only=True):
    """Changes to a running run; None leaves an option as it is.

    ``deadline`` counts from now. Raises ConfigError.
    """

    concurrency: int | str | None = None
    rate: float | None = None
    retries: int | None = None
    deadline: float | None = None
    max_cost: float | None = None
    tolerated_failure_count: int | None = None
    tolerated_failure_percentage: float | None = None
    pause: bool | None = None

    def __post_init__(self) -> None:
        if not self.changes():
            raise ConfigError("there is nothing to change: give an option")
        calls = {
            name: value
            for name in ("concurrency", "rate", "retries", "deadline")
            if (value := getattr(self, name)) is not None
        }
        Options(function="f", **calls)
        if self.concurrency is not None and parse_concurrency(self.concurrency).file is not None:
            raise ConfigError(f"concurrency is {self.concurrency!r}: give a number, a share or auto")
        for name in ("tolerated_failure_count", "tolerated_failure_percentage", "max_cost"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
                raise ConfigError(f"{name} is {value!r}: give a number")
        if self.pause not in (None, True, False):
            raise ConfigError(f"pause is {self.pause!r}: give true or false")
        self.apply_to(StopRules())

    def changes(self) -> dict[str, Any]:
        """The options that change."""
        return {name: value for name, value in msgspec.structs.asdict(self).items() if value is not None}

    def apply_to(self, rules: StopRules) -> StopRules:
        """The stop rules as they are then."""
        count, percentage = self.tolerated_failure_count, self.tolerated_failure_percentage
        return StopRules(
            tolerated_failure_count=rules.tolerated_failure_count if count is None else count,
            tolerated_failure_percentage=rules.tolerated_failure_percentage
            if percentage is None
            else percentage,
            max_cost_usd=rules.max_cost_usd if self.max_cost is None else self.max_cost,
            enough=rules.enough,
            thresholds=rules.thresholds,
            aborts_at_thresholds=rules.aborts_at_thresholds,
        )


def tuning_of(changes: Mapping[str, Any]) -> Tuning:
    """Checked changes by their names. Raises ConfigError for one that there is not."""
    known = list(Tuning.__struct_fields__)
    unknown = sorted(set(changes) - set(known))
    if unknown:
        raise ConfigError(f"{unknown[0]} cannot be changed while a run goes on: there are {', '.join(known)}")
    return Tuning(**changes)


def in_words(in_force: Mapping[str, Any]) -> str:
    """The values in force, for a person: only those that are set, and the pause while there is one."""
    words = [
        f"{name.replace('_', ' ')} {value:,.10g}"
        if isinstance(value, float)
        else f"{name.replace('_', ' ')} {value}"
        for name, value in in_force.items()
        if value is not None and name not in ("pause", "bounded")
    ]
    text = ", ".join(["paused", *words] if in_force.get("pause") else words)
    return "; ".join([text, *in_force.get("bounded", ())])


class _Ask(msgspec.Struct):
    id: str
    changes: dict[str, Any]


class Answer(msgspec.Struct):
    """The answer of a run to an ask: the options in force now, or why they are not."""

    id: str
    in_force: dict[str, Any] | None = None
    error: str | None = None


class TuneInbox:
    """The run's side. ``poll`` costs one look at the directory."""

    def __init__(self, directory: Path) -> None:
        self._ask_path = directory / ASK_FILE
        self._answer_path = directory / ANSWER_FILE
        with suppress(OSError):
            self._answer_path.unlink(missing_ok=True)
        self.close()

    def poll(self, tune: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> None:
        """Apply by ``tune`` what was asked for since the last time."""
        try:
            text = self._ask_path.read_bytes()
        except OSError:
            return
        with suppress(OSError):
            self._ask_path.unlink()
        try:
            ask = msgspec.json.decode(text, type=_Ask)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return
        try:
            answer = Answer(ask.id, in_force=dict(tune(ask.changes)))
        except ConfigError as error:
            answer = Answer(ask.id, error=str(error))
        with suppress(OSError):
            write_whole(self._answer_path, msgspec.json.encode(answer))

    def close(self) -> None:
        """Answer nothing more. The last answer stays: the asker may not have read it yet."""
        with suppress(OSError):
            self._ask_path.unlink(missing_ok=True)


class TuneRequest:
    """The asker's side: ``send``, then ``answer`` until it is there."""

    def __init__(self, directory: Path, tuning: Tuning) -> None:
        self._directory = directory
        self._tuning = tuning
        self._id = secrets.token_urlsafe(9)

    def send(self) -> None:
        """Ask. Raises JournalError when the directory cannot be written."""
        ask = _Ask(self._id, self._tuning.changes())
        path = self._directory / ASK_FILE
        try:
            write_whole(path, msgspec.json.encode(ask))
        except OSError as error:
            raise JournalError(f"{path} cannot be written: {error.strerror}") from error

    def answer(self) -> Answer | None:
        """The run's answer to this request; None while there is none. Raises ConfigError if it refused."""
        try:
            answer = msgspec.json.decode((self._directory / ANSWER_FILE).read_bytes(), type=Answer)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            return None
        if answer.id != self._id:
            return None
        if answer.error is not None:
            raise ConfigError(answer.error)
        return answer

    def withdraw(self) -> None:
        """No answer came: remove the request, so that no later run finds it."""
        with suppress(OSError):
            (self._directory / ASK_FILE).unlink(missing_ok=True)
