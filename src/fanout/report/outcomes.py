"""How a run directory is read for a report: its description, and its outcomes one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from fanout.errors import JournalError
from fanout.model import Outcome

RUN = "run.json"
OUTCOMES = "outcomes.jsonl"
_BLOCK_BYTES = 1 << 20


class _Line(Outcome, kw_only=True, omit_defaults=True, rename=lambda name: f"-{name}"):
    """An outcome without its payloads: their members have names here that no line has, and are passed over.

    They may be megabytes each. (msgspec would refuse them, too: it decodes no ``Raw | None``.)
    """

    output: None = None
    input: None = None


def read_run(run_dir: Path) -> dict[str, Any]:
    """What ``run.json`` says. Raises JournalError, in one line, where there is no run."""
    try:
        run = msgspec.json.decode((run_dir / RUN).read_bytes(), type=dict[str, Any])
    except (FileNotFoundError, NotADirectoryError):
        what = "is no run directory: there is no run.json in it" if run_dir.is_dir() else "is no directory"
        raise JournalError(f"{run_dir} {what}; give the directory that a run wrote") from None
    except OSError as error:
        raise JournalError(
            f"{run_dir / RUN}: {error.strerror}; give a run directory that can be read"
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise JournalError(f"{run_dir / RUN} cannot be read: {error}; is it a run directory?") from error
    return run


class OutcomeReader:
    """Iterates over the outcomes of a journal in order of finishing; a run that wrote none has none.

    ``unreadable`` counts lines passed over; the last line, where a crash cut it short, is none of them.
    """

    def __init__(self, run_dir: Path) -> None:
        self._path = run_dir / OUTCOMES
        self.unreadable = 0

    def __iter__(self) -> Iterator[Outcome]:
        decode = msgspec.json.Decoder(_Line).decode
        try:
            file = self._path.open("rb", buffering=_BLOCK_BYTES)
        except FileNotFoundError:
            return
        except OSError as error:
            raise JournalError(f"{self._path}: {error.strerror}; give a run that can be read") from error
        with file:
            for line in file:
                try:
                    outcome = decode(line)
                except (msgspec.DecodeError, UnicodeDecodeError):
                    self.unreadable += line.endswith(b"\n")
                    continue
                yield outcome
