"""The input of a run as run.json has it, decoded in one place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from fanout.errors import JournalError
from fanout.inputs.dialect import Dialect

ITERABLE = "(iterable)"  # the location of records that came from a program


class RecordedInput(msgspec.Struct, frozen=True):
    """``path`` and ``locations`` are absolute; ``given`` are the latter as they were given in ``directory``.

    ``fingerprint`` is for the module of that name alone.
    """

    location: str
    path: str | None = None
    locations: list[str] = []
    given: list[str] = []
    directory: str = ""
    fingerprint: dict[str, Any] = {}
    rules: int = 1  # of counting: those of 0.1 where it does not say
    dialect: Dialect | None = None  # None: it was never looked at

    @property
    def places(self) -> list[str]:
        """Its locations; files by their absolute paths, where these are known."""
        return self.locations or [self.path or self.location]

    @property
    def kind(self) -> str | None:
        """The kind of its fingerprint."""
        return self.fingerprint.get("kind")


def recorded_input(state: Mapping[str, Any]) -> RecordedInput | None:
    """The input that run.json names; None where it names none. Raises JournalError for a damaged one."""
    found = state.get("input")
    if not isinstance(found, dict):
        return None
    members = {name: value for name, value in found.items() if value is not None}
    dialect = {name: found[name] for name in Dialect.__struct_fields__ if name in found}
    if dialect:
        members["dialect"] = dialect
    try:
        return msgspec.convert(members, RecordedInput)
    except msgspec.ValidationError as error:
        raise JournalError(f"run.json is damaged: input: {error}") from error


def location_of(state: Mapping[str, Any]) -> str | None:
    """The input in one word, as it was given."""
    found = recorded_input(state)
    return None if found is None else found.location
