"""One run that is to begin: its input, its options, and where its outcomes go."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from fanout.batching.plan import DEFAULT_WAIT_S
from fanout.commands.options import RunOptions
from fanout.errors import ConfigError
from fanout.inputs.locations import is_url, named_format

REPEATED = "(payload)"  # the location of a run with --payload


def default_directory(function: str) -> Path:
    """Where a run goes without --out: ``runs/<function>-<UTC time>``; the function by its name alone."""
    name = "".join(c if c.isalnum() or c in "-_." else "-" for c in function.rpartition("function:")[2])
    base = Path("runs") / f"{name}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    path, count = base, 1
    while path.exists():
        count += 1
        path = base.with_name(f"{base.name}-{count}")
    return path


class RunRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A run of the records of ``locations`` (paths, ``-``, URLs …), of a payload, or of ``payloads``."""

    options: RunOptions
    locations: tuple[str, ...] = ()
    payloads: Any = None
    out: Path | None = None
    to_stdout: bool = False
    canary: int | None = None  # of a plan: send so many records, and leave the rest to the run proper
    records_planned: int | None = None  # how many the input has, where a plan counted them
    defaults: frozenset[str] = frozenset()  # options of the environment and --config: for many runs

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
        else:
            self._check_some_input_has("csv_delimiter", "csv or tsv", ("csv", "tsv"))
            self._check_some_input_has("csv_header", "csv or tsv", ("csv", "tsv"))
            if options.nan != "reject":
                self._check_some_input_has("nan", "parquet", ("parquet",))
            has_s3 = any(location.startswith("s3://") for location in self.locations)
            if options.request_payer and not has_s3 and self._is_for_this_run("request_payer"):
                raise ConfigError("request_payer goes with S3, and no input is there: leave it out")
        is_waiting = options.calls.batch_wait != DEFAULT_WAIT_S and self._is_for_this_run("batch_wait")
        if is_waiting and not options.is_batched:
            raise ConfigError("batch_wait goes with batch: give batch, the records in one call")

    def _is_for_this_run(self, name: str) -> bool:
        """False for a default over many runs, which means nothing in some of them."""
        return name not in self.defaults

    @property
    def location(self) -> str | None:
        """The input in one word, for run.json and messages; None for records of a program."""
        if self.options.payload is not None:
            return REPEATED
        return " ".join(self.locations) if self.locations else None

    def _check_some_input_has(self, name: str, what: str, formats: tuple[str, ...]) -> None:
        """An option of formats that no input has, by the names, would be ignored."""
        options = self.options
        if not getattr(options, name) or not self._is_for_this_run(name):
            return
        if options.format is not None:  # it is compared with the format elsewhere
            return
        found = [named_format(location) for location in self.locations]
        if all(each is not None and each not in formats for each in found):
            raise ConfigError(
                f"{name} is for {what}, and no input is that by its name: leave {name} out, or give format"
            )

    @property
    def without_effect(self) -> list[str]:
        """What to say of options without their object that the first version took: scripts have them."""
        options, said = self.options, []
        has_spool = any(each == "-" or is_url(each) or each.startswith("sqs://") for each in self.locations)
        if not options.spool and not has_spool and self._is_for_this_run("spool"):
            said.append("no_spool has no effect: it is for standard input and URLs, and no input is that")
        of_local = [] if options.local is not None else ["local_concurrency", "local_timeout"]
        return said + [
            f"{name} has no effect: it goes with local, a FILE.py:HANDLER"
            for name in of_local
            if getattr(options, name) is not None and self._is_for_this_run(name)
        ]

    def _check_no_input_options(self, reason: str) -> None:
        """Such records are read from nothing: an option of an input would be ignored."""
        for name in ("format", "items", "csv_delimiter", "csv_header", "encoding", "request_payer"):
            if getattr(self.options, name):
                raise ConfigError(f"{name} is for inputs that are read, and {reason}")
        if self.options.nan != "reject":
            raise ConfigError(f"nan is for inputs that are read, and {reason}")
