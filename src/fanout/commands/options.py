"""The options of a run: those of its calls and its own, in one checked object."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import msgspec

from fanout.aws.s3_faults import is_s3, split_location
from fanout.config import OptionKeywords, Options, check_flags
from fanout.cost import Prices, load_prices
from fanout.errors import ConfigError, JournalError, SourceError
from fanout.inputs import RULES, InputOptions, Reading, Selector
from fanout.runs import StopRules
from fanout.runs.threshold import parse_threshold
from fanout.transports import Transport

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
OF_WHOLE_RUNS = frozenset({"take", "enough", "threshold", "threshold_abort"})  # and of no redrive
_NOT_KEPT = frozenset({"scheduler"})  # the cluster of today is not the one of a later resume


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
    threshold: str | Sequence[str]
    threshold_abort: bool
    name: str | None
    label: str | Sequence[str]
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


class Given(RunKeywords, total=False):
    """Options as they were given, by their names: on the command line, in a call, or in run.json."""

    transport: str | Transport


class RunOptions(msgspec.Struct, frozen=True, kw_only=True):
    """All options of one run, by the command's names. Kept in run.json and taken up again on resume.

    ``calls`` are the options of its dispatcher, of which ``given`` names those that were given;
    ``own_transport`` is an object of the caller's that sends the calls.
    """

    calls: Options
    given: frozenset[str] = frozenset()
    own_transport: Transport | None = None
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
    threshold: str | Sequence[str] = ()  # such as p95<500ms
    threshold_abort: bool = False
    name: str | None = None  # of the run, in lists
    label: str | Sequence[str] = ()  # KEY=VALUE
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

    @classmethod
    def of(cls, function: str, given: Given) -> RunOptions:
        """The options of a run of ``function``.

        Raises ConfigError for a value that is wrong, TypeError for a name that there is not.
        """
        unknown = sorted(set(given) - _KNOWN)
        if unknown:
            raise TypeError(f"unknown option {unknown[0]!r}: there are {', '.join(sorted(_KNOWN))}")
        own: dict[str, Any] = {name: value for name, value in given.items() if name in OWN_OPTIONS}
        header = own.get("csv_header")
        if header is not None and not isinstance(header, str):
            own["csv_header"] = list(header)
        calls = {name: value for name, value in given.items() if name not in own and name != "transport"}
        transport = given.get("transport", "direct")
        kind = transport if isinstance(transport, str) else "direct"
        return cls(
            calls=Options.of(function, calls, transport=kind),
            given=frozenset(calls),
            own_transport=None if isinstance(transport, str) else transport,
            **own,
        )

    def __post_init__(self) -> None:
        """Raise ConfigError for what is wrong, before anything of the run is made."""
        for name in ("take", "enough", "tolerated_failure_count", "local_concurrency"):
            _check_number(name, getattr(self, name), is_whole=True)
        for name in ("tolerated_failure_percentage", "max_cost", "grace", "empty_after", "local_timeout"):
            _check_number(name, getattr(self, name), is_whole=False)
        if self.results is not None:
            check_results(self.results)
        if self.fsync not in ("second", "always", "never"):
            raise ConfigError(f"fsync is {self.fsync!r}: give second | always | never")
        check_flags(self)
        self.rules()
        self.label_map()
        if self.repeat is not None and (isinstance(self.repeat, bool) or self.repeat < 0):
            raise ConfigError(f"repeat is {self.repeat!r}: give a whole number from 0")
        if self.repeat is not None and self.payload is None:
            raise ConfigError("repeat goes with payload: give both")
        self.input_options()

    # --- what they say -------------------------------------------------------------------------

    @property
    def function(self) -> str:
        """A name, a partial ARN or an ARN."""
        return self.calls.function

    @property
    def is_batched(self) -> bool:
        """True if records are sent in the shape of a batch. What changes that changes what is sent."""
        return self.calls.batch not in (None, 1) or self.calls.batch_shape is not None

    @property
    def uses_workers(self) -> bool:
        """True if workers make the calls."""
        return bool(self.workers) or self.scheduler is not None

    def reading(self, *, samples: bool) -> Reading | None:
        """How workers read rows for themselves; None where they do not.

        Outcomes in order would pile up: rows of one moment are far apart.
        """
        if not self.uses_workers or self.keep_order:
            return None
        return Reading(self.input_options(), self.key, self.select, self.durable_expr, samples)

    def input_options(self, *, rules: int = RULES) -> InputOptions:
        """The options by which the input is read. Raises ConfigError for wrong ones."""
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

    def selector(self) -> Selector:
        """The selector of key and payload of a record. Raises ConfigError for expressions that are wrong."""
        return Selector(self.key, self.select, self.durable_expr)

    def rules(self) -> StopRules:
        """The stopping rules. Raises ConfigError for thresholds that are wrong."""
        return StopRules(
            tolerated_failure_count=self.tolerated_failure_count,
            tolerated_failure_percentage=self.tolerated_failure_percentage,
            max_cost_usd=self.max_cost,
            enough=self.enough,
            thresholds=tuple(parse_threshold(text) for text in _texts(self.threshold)),
            aborts_at_thresholds=self.threshold_abort,
        )

    def price_table(self) -> dict[str, Prices]:
        """The prices by Region. Raises ConfigError for a table that cannot be read."""
        return load_prices(None if self.prices is None else Path(self.prices))

    def label_map(self) -> dict[str, str]:
        """The labels by their keys. Raises ConfigError for one without a key."""
        labels = _texts(self.label)
        pairs = [label.partition("=") for label in labels]
        for (key, sign, _), label in zip(pairs, labels, strict=True):
            if not key or not sign:
                raise ConfigError(f"label is {label!r}: give KEY=VALUE")
        return {key: value for key, _, value in pairs}

    # --- what run.json has of them -------------------------------------------------------------

    def chosen(self) -> Given:
        """The options asked for: those of calls that were given, and the run's that are not the default."""
        chosen = {name: getattr(self.calls, name) for name in self.given if name != "invocation"}
        if "invocation" in self.given:
            chosen["stream"] = True
        for name, default in _DEFAULTS.items():
            value = getattr(self, name)
            if value != default:
                chosen[name] = value
        transport = self.calls.transport if self.own_transport is None else self.own_transport
        return cast(Given, {**chosen, "transport": transport})

    def kept(self) -> Given:
        """The options that run.json keeps."""
        left_out = _NOT_KEPT | (frozenset() if self.own_transport is None else {"transport"})
        return cast(Given, {name: value for name, value in self.chosen().items() if name not in left_out})


_DEFAULTS = {
    name: default
    for name, default in zip(
        RunOptions.__struct_fields__[-len(RunOptions.__struct_defaults__) :],
        RunOptions.__struct_defaults__,
        strict=True,
    )
    if name not in ("given", "own_transport")
}
OWN_OPTIONS = frozenset(_DEFAULTS)
_KNOWN = OWN_OPTIONS | (Options.names() - {"function"}) | {"invocation"}


def kept_in(state: Mapping[str, Any]) -> tuple[str, Given]:
    """The function and the options that run.json has. Raises JournalError where they are missing.

    Options that this version does not know are left out.
    """
    function, kept = state.get("function"), state.get("options")
    if not isinstance(function, str) or not isinstance(kept, dict):
        raise JournalError("run.json is damaged: function or options are missing")
    known = {name: value for name, value in kept.items() if name in _KNOWN}
    if known.pop("invocation", None) == "stream":
        known["stream"] = True
    return function, cast(Given, known)


def options_of(state: Mapping[str, Any]) -> RunOptions:
    """The options of a run as run.json has them. Raises JournalError."""
    return RunOptions.of(*kept_in(state))


def is_batched(given: Given) -> bool:
    """True if options, as they were given, send records in the shape of a batch."""
    return given.get("batch") not in (None, 1) or given.get("batch_shape") is not None


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


def _texts(value: str | Sequence[str]) -> Sequence[str]:
    """One text, or several."""
    return (value,) if isinstance(value, str) else value
