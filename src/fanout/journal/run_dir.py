"""The run directory and its run.json, which is written whole or not at all."""

from __future__ import annotations

import contextlib
import json
import secrets
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from fanout.errors import JournalError
from fanout.journal.lock import LOCK_FILE, RunLock
from fanout.journal.marks import MARK_FILE, read_marks, write_marks
from fanout.journal.samples import SAMPLES_FILE
from fanout.journal.state_members import fault_of
from fanout.journal.windows import WINDOWS_FILE, Ranges, merged, read_windows, write_windows
from fanout.payload import indented
from fanout.private_files import make_directory, opener, write_whole

FORMAT = 1
FORMAT_WITH_WINDOWS = 2  # workers have been at work: which records they may have sent stands in windows
STATE_FILE = "run.json"
OUTCOMES_FILE = "outcomes.jsonl"
SPOOL_FILE = "spool"
CHECKPOINT_FILE = "checkpoint"
# Every file of a run that has not begun: what undoing its beginning removes.
BEGUN_FILES = (
    *(STATE_FILE, OUTCOMES_FILE, MARK_FILE, LOCK_FILE, SAMPLES_FILE, SPOOL_FILE, f"{SPOOL_FILE}.end"),
    *(WINDOWS_FILE, "reserve", "timeline.jsonl", "messages", "places", "inputs.gz"),
    CHECKPOINT_FILE,
)

_decode = msgspec.json.Decoder(dict[str, Any]).decode


class RunDir:
    """A directory that holds one run. ``state`` is what run.json says; unknown members are kept."""

    def __init__(self, path: Path, state: dict[str, Any]) -> None:
        self.path = path
        self.state = state

    @classmethod
    def create(cls, path: Path, state: dict[str, Any]) -> RunDir:
        """Make the directory and its parents, and begin a run there with this state.

        Raises JournalError when it holds a run already or cannot be written.
        """
        try:
            make_directory(path)
            _refuse_other_files(path)
            with RunLock(path):  # of two processes that begin here at once, the second finds a run
                _refuse_a_run(path)
                return cls._begin(path, state)
        except FileExistsError:
            if path.exists():
                raise JournalError(f"{path} is not a directory: choose another --out") from None
            raise JournalError(
                f"{path} cannot be written: a directory above it is a file: choose another --out"
            ) from None
        except OSError as error:
            raise JournalError(f"{path} cannot be written: {error.strerror}: choose another --out") from error

    @classmethod
    def _begin(cls, path: Path, state: dict[str, Any]) -> RunDir:
        """run.json comes last: a directory without it holds no run, and the next one may begin there."""
        for name in BEGUN_FILES:
            if name != LOCK_FILE:
                (path / name).unlink(missing_ok=True)
        with open(path / OUTCOMES_FILE, "xb", opener=opener):
            pass
        run_dir = cls(path, {})
        try:
            # The mark is whole before run.json says "running": no kill can leave one without the other.
            write_marks(path, [0])
            run_dir.write_state({"format": FORMAT, "id": new_run_id(), "generation": 0, **state})
        except JournalError:
            for name in (OUTCOMES_FILE, MARK_FILE):
                with contextlib.suppress(OSError):
                    (path / name).unlink()
            raise
        return run_dir

    @classmethod
    def open(cls, path: Path) -> RunDir:
        """The run that a directory holds. Raises JournalError saying what is missing when it holds none."""
        return cls(path, _read_state(path))

    @property
    def spool(self) -> Path:
        """The copy of standard input, for a resume."""
        return self.path / SPOOL_FILE

    def lock(self) -> RunLock:
        """Hold the directory for this process. Raises JournalError while another one does."""
        return RunLock(self.path)

    def write_state(self, changes: dict[str, Any]) -> None:
        """Change members of run.json: after a crash, at any moment, it is the old one or the new one.

        Takes some milliseconds, for the disk. ``not_sent`` lasts until the run goes on: the state
        ``running`` removes it. Raises JournalError when it cannot be written.
        """
        state = {**self.state, **changes}
        if state.get("state") == "running":
            state.pop("not_sent", None)
        path = self.path / STATE_FILE
        try:
            write_whole(path, indented(state) + b"\n")
        except OSError as error:
            raise JournalError(f"{path} cannot be written: {error.strerror}") from error
        self.state = state

    @property
    def has_windows(self) -> bool:
        """True if windows, not a mark alone, say which records may have been sent."""
        return self.state.get("format") == FORMAT_WITH_WINDOWS

    def may_have_sent(self) -> bool:
        """Say whether a record of this run may have been sent, or has an outcome. Raises JournalError."""
        try:
            has_outcomes = (self.path / OUTCOMES_FILE).stat().st_size > 0
        except OSError:
            has_outcomes = False
        return has_outcomes or any(read_marks(self.path)) or bool(read_windows(self.path))

    def begin_windows(self, generation: int, suspects: Ranges) -> None:
        """Let windows say from now on which records may have been sent: to begin with, these.

        A kill between the steps leaves a mark that says more than it must, never less.
        """
        windows = {each: ranges for each, ranges in read_windows(self.path).items() if each != generation}
        write_windows(self.path, {**windows, generation: merged(suspects)})
        if not self.has_windows:
            self.write_state({"format": FORMAT_WITH_WINDOWS})
        marks = read_marks(self.path)
        write_marks(self.path, [0 if each == generation else mark for each, mark in enumerate(marks)])

    def begin_generation(self, generation: int, changes: dict[str, Any]) -> None:
        """Begin a redrive: its mark first, then run.json, so that a kill between the two harms nothing."""
        marks = read_marks(self.path)[:generation]
        write_marks(self.path, [*marks, *[0] * (generation + 1 - len(marks))])
        self.write_state({**changes, "generation": generation})


def new_run_id() -> str:
    """128 random bits as 22 characters of ``[a-zA-Z0-9-_]``: the name that a run has for ever."""
    return secrets.token_urlsafe(16)


def _read_json(text: bytes) -> dict[str, Any]:
    try:
        return _decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        if b"\\ud" not in text:
            raise
    try:
        state: dict[str, Any] = json.loads(text)
    except ValueError as error:
        raise msgspec.DecodeError(str(error)) from error
    return state


# Options that a run over the same queue must have, or it would send something else, or elsewhere.
_SENT_ALIKE = (
    *("key", "select", "format", "qualifier", "invocation_type", "client_context", "tenant_id", "stream"),
    *("durable", "durable_expr", "batch", "batch_bytes", "batch_shape", "batch_input", "batch_reply"),
    *("bisect", "idempotent", "local", "profile", "region", "endpoint_url"),
)
_OPTIONS = {"durable_expr": "--durable-name"}  # whose name on the command line is another


def command_of_same(state: Mapping[str, Any], location: str) -> str:
    """The ``fanout run`` that sends what this run sent, from the same input, into a directory of its own."""
    words = ["fanout", "run", str(state.get("function")), location]
    options = state.get("options") or {}
    for name in _SENT_ALIKE:
        value, option = options.get(name), _OPTIONS.get(name, f"--{name.replace('_', '-')}")
        if value is True:
            words.append(option)
        elif value is not None and value is not False and value != ():
            is_text = isinstance(value, str | int | float)
            words += [option, str(value) if is_text else msgspec.json.encode(value).decode()]
    return " ".join(shlex.quote(word) for word in words)


def shell_word(directory: Path) -> str:
    """A run directory as a word of a command that works from any directory."""
    return shlex.quote(str(directory.absolute()))


def _refuse_other_files(path: Path) -> None:
    """A run's files go into a directory of their own, not among somebody's."""
    for name in sorted(each.name for each in path.iterdir()):
        if name not in (*BEGUN_FILES, STATE_FILE + ".new", MARK_FILE + ".new", "lost+found"):
            if (path / STATE_FILE).exists():
                return
            if not name.startswith("."):
                raise JournalError(f"{path} is not empty and holds no run: choose another --out")


def _refuse_a_run(path: Path) -> None:
    """Nothing of an earlier run is ever overwritten; one killed before its run.json was there is none."""
    if (path / STATE_FILE).exists():
        command = f"`fanout resume {shell_word(path)}` (in a program: resume=True)"
        how = f"go on with {command}, or choose another --out"
        raise JournalError(f"{path} holds a run already: {how}")
    outcomes = path / OUTCOMES_FILE
    if outcomes.exists() and outcomes.stat().st_size:
        raise JournalError(f"{path} has outcomes but no {STATE_FILE}: choose another --out")


def _lack(directory: Path, name: str) -> str:
    if directory.is_dir():
        return f"it has no {name}"
    if not directory.exists():
        return "there is no such directory"
    parent = directory.parent
    hint = f": give {shell_word(parent)}" if (parent / STATE_FILE).exists() else ", not a directory"
    return f"it is a file{hint}"


def _read_state(directory: Path) -> dict[str, Any]:
    for path in (directory / STATE_FILE, directory / OUTCOMES_FILE):
        try:
            missing = not path.exists()
        except (OSError, ValueError) as error:
            raise JournalError(f"{directory} cannot be read: {error}") from error
        if missing:
            raise JournalError(f"{directory} is not a run directory: {_lack(directory, path.name)}")
    path = directory / STATE_FILE
    try:
        state = _read_json(path.read_bytes())
    except OSError as error:
        raise JournalError(f"{path} cannot be read: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise JournalError(f"{path} is damaged: {error}") from error
    format_number = state.get("format", FORMAT)
    if not isinstance(format_number, int) or format_number > FORMAT_WITH_WINDOWS:
        by = f"fanout {state['fanout_version']}" if "fanout_version" in state else "another fanout"
        raise JournalError(
            f"{path}: format {format_number}, written by {by}; "
            f"this one reads up to {FORMAT_WITH_WINDOWS}: upgrade fanout"
        )
    if (fault := fault_of(state)) is not None:
        raise JournalError(f"{path} is damaged: {fault}")
    return state
