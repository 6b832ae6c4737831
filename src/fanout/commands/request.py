"""One run that is to begin: its input, its options, and where its outcomes go."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fanout.commands.options import RunOptions
from fanout.errors import ConfigError

REPEATED = "(payload)"  # the location of a run with --payload


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A run of the records of ``locations`` (paths, ``-``, URLs …), of a payload, or of ``payloads``."""

    options: RunOptions
    locations: tuple[str, ...] = ()
    payloads: Any = None
    out: Path | None = None
    to_stdout: bool = False
    canary: int | None = None  # of a plan: send so many records, and leave the rest to the run proper
    records_planned: int | None = None  # how many the input has, where a plan counted them

    def __post_init__(self) -> None:
        options = self.options
        if options.results is not None and self.out is None and self.canary is None:
            raise ConfigError("results are uploaded from a run directory: give out a directory")
        if options.keep_order and self.out is not None:
            raise ConfigError(
                "keep_order is for outcomes that are handed on as they come, and those of a run directory "
                "are in order of finishing: leave out away"
            )
        if options.payload is not None:
            if self.locations:
                raise ConfigError(
                    f"payload and an input ({' '.join(self.locations)}) are both given: leave one out"
                )
            self._check_no_input_options("this run has one payload")
        elif not self.locations:
            self._check_no_input_options("these records come from a program")

    @property
    def location(self) -> str | None:
        """The input in one word, for run.json and messages; None for records of a program."""
        if self.options.payload is not None:
            return REPEATED
        return " ".join(self.locations) if self.locations else None

    def _check_no_input_options(self, reason: str) -> None:
        """Such records are read from nothing: an option of an input would be ignored."""
        for name in ("format", "items", "csv_delimiter", "csv_header", "encoding", "request_payer"):
            if getattr(self.options, name):
                raise ConfigError(f"{name} is for inputs that are read, and {reason}")
        if self.options.nan != "reject":
            raise ConfigError(f"nan is for inputs that are read, and {reason}")
