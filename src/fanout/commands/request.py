"""What a run is asked to do, apart from the options of its dispatcher."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from fanout.aws.s3_faults import is_s3, split_location
from fanout.config import OptionKeywords
from fanout.errors import ConfigError, SourceError
from fanout.inputs import RULES, InputOptions
from fanout.runs import StopRules
from fanout.runs.threshold import parse_threshold

REPEATED = "(payload)"  # the location of a run with --payload
# Options that change what is sent, or which records there are: a resumed run keeps them.
KEPT_ON_RESUME = frozenset(
    {
        "function",
        "qualifier",
        "invocation_type",
        "client_context",
        "tenant_id",
        "durable_name",
        "stream",
        "format",
        "items",
        "csv_delimiter",
        "csv_header",
        "encoding",
        "nan",
        "payload",
        "repeat",
        "key",
        "select",
        "durable_expr",
        "durable",
        "batch_shape",
        "batch_input",
        "batch_reply",
    }
)


def is_batched(options: Mapping[str, Any]) -> bool:
    """Whether records are sent in the shape of a batch. What changes that changes what is sent."""
    return options.get("batch") not in (None, 1) or options.get("batch_shape") is not None


class RunKeywords(OptionKeywords, total=False):
    """The options of ``fanout.run`` as keywords: a dispatcher's and those of ``RunOptions``."""

    format: str | None
    items: str | None
    csv_delimiter: str | None
    csv_header: str | Sequence[str] | None
    encoding: str | None
    nan: Literal["reject", "null"]
    request_payer: bool
    payload: str | None
    repeat: int | None
    key: str | None
    select: str | None
    durable_expr: str | None
    durable: bool
    take: int | None
    collect: bool
    enough: int | None
    thresholds: Sequence[str]
    threshold_abort: bool
    name: str | None
    labels: Sequence[str]
    follow: bool
    empty_after: float | None
    tolerated_failure_count: int | None
    tolerated_failure_percentage: float | None
    max_cost: float | None
    prices: str | None
    grace: float | None
    fsync: Literal["second", "always", "never"]
    spool: bool
    keep_order: bool
    report: bool
    preflight: bool
    workers: int | None
    scheduler: Any
    results: str | None
    on_finish: str | None
    local: str | None
    local_concurrency: int | None
    local_timeout: float | None


@dataclass(slots=True, kw_only=True)
class RunOptions:
    """Options of a run, by the command's names. Kept in run.json and taken up again on resume."""

    format: str | None = None
    items: str | None = None  # JSON Pointer to the array of a .json input
    csv_delimiter: str | None = None
    csv_header: str | Sequence[str] | None = None  # "id,name", or the names
    encoding: str | None = None
    nan: Literal["reject", "null"] = "reject"  # what becomes of NaN in Parquet
    request_payer: bool = False  # of S3
    payload: str | None = None  # the JSON of every record
    repeat: int | None = None  # how many times
    key: str | None = None  # JMESPath: the record's id
    select: str | None = None  # JMESPath: the payload made of it
    durable_expr: str | None = None  # JMESPath: the durable execution's name
    durable: bool = False  # each call's durable execution has a name of the run's
    take: int | None = None
    collect: bool = False  # the results of Event calls, when the run has finished
    enough: int | None = None  # stop once so many records have succeeded
    thresholds: Sequence[str] = ()  # such as p95<500ms
    threshold_abort: bool = False
    name: str | None = None  # of the run, in lists
    labels: Sequence[str] = ()  # KEY=VALUE
    follow: bool = False  # of a queue: an empty one is no end
    empty_after: float | None = None  # seconds without a message, after which a queue counts as empty
    tolerated_failure_count: int | None = None
    tolerated_failure_percentage: float | None = None
    max_cost: float | None = None
    prices: str | None = None
    grace: float | None = None
    fsync: Literal["second", "always", "never"] = "second"
    spool: bool = True
    keep_order: bool = False
    report: bool = True
    preflight: bool = False
    workers: int | None = None  # processes on this machine
    scheduler: Any = None  # of a Dask cluster: its address, or a Client
    results: str | None = None  # s3://bucket/prefix/, where the outcomes go when the run stops
    on_finish: str | None = None  # a shell's command, which gets the summary as JSON on stdin
    local: str | None = None  # FILE.py:HANDLER, run by an emulator of the run's own
    local_concurrency: int | None = None
    local_timeout: float | None = None

    def __post_init__(self) -> None:
        """Raise ConfigError for what is wrong, before anything of the run is made."""
        for name in ("take", "enough", "tolerated_failure_count", "local_concurrency"):
            _check_number(name, getattr(self, name), is_whole=True)
        for name in ("tolerated_failure_percentage", "max_cost", "grace", "empty_after", "local_timeout"):
            _check_number(name, getattr(self, name), is_whole=False)
        for name in ("thresholds", "labels"):
            if isinstance(getattr(self, name), str):
                raise ConfigError(f"{name} is {getattr(self, name)!r}: give a list")
        if self.results is not None:
            check_results(self.results)
        if self.fsync not in ("second", "always", "never"):
            raise ConfigError(f"fsync is {self.fsync!r}: give second | always | never")
        self.rules()
        self.label_map()
        if self.csv_header is not None and not isinstance(self.csv_header, str):
            self.csv_header = list(self.csv_header)
        if self.repeat is not None and (isinstance(self.repeat, bool) or self.repeat < 0):
            raise ConfigError(f"repeat is {self.repeat!r}: give a whole number from 0")
        if self.repeat is not None and self.payload is None:
            raise ConfigError("repeat goes with payload: give both")
        self.input_options()

    @classmethod
    def names(cls) -> frozenset[str]:
        """The names of all options."""
        return frozenset(each.name for each in fields(cls))

    def input_options(self, *, rules: int = RULES) -> InputOptions:
        """How the input is read. Raises ConfigError for options that are wrong."""
        header = self.csv_header
        if isinstance(header, str):
            header = next(csv.reader([header]), [])
        delimiter = self.csv_delimiter
        return InputOptions(
            format=self.format,
            items=self.items,
            csv_delimiter="\t" if delimiter in ("tab", "\\t") else delimiter,
            csv_header=None if header is None else tuple(header),
            encoding=self.encoding,
            nan=self.nan,
            request_payer=self.request_payer,
            rules=rules,
        )

    def rules(self) -> StopRules:
        """The stopping rules. Raises ConfigError for thresholds that are wrong."""
        return StopRules(
            tolerated_failure_count=self.tolerated_failure_count,
            tolerated_failure_percentage=self.tolerated_failure_percentage,
            max_cost_usd=self.max_cost,
            enough=self.enough,
            thresholds=tuple(parse_threshold(text) for text in self.thresholds),
            aborts_at_thresholds=self.threshold_abort,
        )

    def label_map(self) -> dict[str, str]:
        """The labels by their keys. Raises ConfigError for one without a key."""
        pairs = [label.partition("=") for label in self.labels]
        for (key, sign, _), label in zip(pairs, self.labels, strict=True):
            if not key or not sign:
                raise ConfigError(f"label is {label!r}: give KEY=VALUE")
        return {key: value for key, _, value in pairs}


def check_results(location: object) -> None:
    """Raise ConfigError unless ``location`` is a prefix in S3."""
    try:
        if isinstance(location, str) and is_s3(location):
            split_location(location)
            return
    except SourceError:
        pass
    raise ConfigError(f"results is {location!r}: give s3://BUCKET/PREFIX/")


def _check_number(name: str, value: object, *, is_whole: bool) -> None:
    if value is None:
        return
    kinds: tuple[type, ...] = (int,) if is_whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not value >= 0:  # type: ignore[operator]
        allowed = "a whole number from 0" if is_whole else "a number from 0"
        raise ConfigError(f"{name} is {value!r}: give {allowed}")


_DEFAULTS = RunOptions()


@dataclass(slots=True, kw_only=True)
class Request:
    """One run that is to begin: of ``location`` (a path, ``-``, a URL) or of ``payloads``."""

    function: str
    location: str | None = None
    locations: tuple[str, ...] = ()  # where there are several; ``location`` then names them all
    payloads: Any = None
    out: Path | None = None
    to_stdout: bool = False
    run_options: RunOptions = field(default_factory=RunOptions)
    options: dict[str, Any] = field(default_factory=dict)  # the dispatcher's
    transport: Any = "direct"
    canary: int | None = None  # of a plan: send so many records, and leave the rest to the run proper
    records_planned: int | None = None  # how many the input has, where a plan counted them

    def __post_init__(self) -> None:
        if self.run_options.results is not None and self.out is None and self.canary is None:
            raise ConfigError("results are uploaded from a run directory: give out a directory")
        if self.run_options.keep_order and self.out is not None:
            raise ConfigError(
                "keep_order is for outcomes that are handed on as they come, and those of a run directory "
                "are in order of finishing: leave out away"
            )
        if self.run_options.payload is not None:
            if self.location is not None or self.locations:
                given = self.location or " ".join(self.locations)
                raise ConfigError(f"payload and an input ({given}) are both given: leave one out")
            self.location = REPEATED
        if self.location is None:
            if not self.locations:
                self._check_no_input_options()
                return
            self.location = " ".join(self.locations)
        self.locations = self.locations or (self.location,)

    def _check_no_input_options(self) -> None:
        """Records of a program are read from nothing: an option of an input would be ignored."""
        for name in ("format", "items", "csv_delimiter", "csv_header", "encoding", "request_payer"):
            if getattr(self.run_options, name):
                raise ConfigError(
                    f"{name} is for inputs that are read, and these records come from a program"
                )
        if self.run_options.nan != "reject":
            raise ConfigError("nan is for inputs that are read, and these records come from a program")

    def chosen_run(self) -> dict[str, Any]:
        """The run's options that are not the default."""
        chosen = {each.name: getattr(self.run_options, each.name) for each in fields(RunOptions)}
        return {name: value for name, value in chosen.items() if value != getattr(_DEFAULTS, name)}

    def kept(self) -> dict[str, Any]:
        """What run.json keeps of the options: those that are not the default."""
        transport = {"transport": self.transport} if isinstance(self.transport, str) else {}
        kept = {**self.options, **transport, **self.chosen_run()}
        kept.pop("scheduler", None)  # the cluster of today is not the one of a later resume
        return kept
