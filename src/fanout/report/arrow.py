"""The outcomes of a run as a table of Arrow: one row for each record, the same columns for every run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from fanout.errors import ConfigError
from fanout.model import Outcome

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS = 5000
_MISSING = "to_arrow needs pyarrow: pip install 'lambda-fanout[parquet]'"
_TEXT = (
    *("request_id", "executed_version", "trace_id", "durable_execution_arn"),
    *("output_encoding", "output_file", "input_encoding", "source", "log_tail"),
)
_WHOLE = ("http_status", "billed_ms", "memory_mb", "max_memory_mb", "line")
_NUMBERS = ("queued_ms", "duration_ms", "init_ms", "restore_ms")


def to_arrow(outcomes: Iterable[Outcome]) -> pa.Table:
    """The table. ``output`` and ``input`` are JSON text. Raises ConfigError without pyarrow."""
    try:
        import pyarrow as pa
    except ImportError:
        raise ConfigError(_MISSING) from None
    schema = pa.schema(
        [
            ("seq", pa.int64()),
            ("key", pa.string()),
            ("status", pa.string()),
            ("attempts", pa.int64()),
            ("throttles", pa.int64()),
            ("started_at", pa.timestamp("ms", tz="UTC")),
            *((name, pa.float64()) for name in _NUMBERS),
            *((name, pa.int64()) for name in _WHOLE),
            ("timed_out", pa.bool_()),
            ("error_type", pa.string()),
            ("error_message", pa.string()),
            ("output", pa.string()),
            ("input", pa.string()),
            *((name, pa.string()) for name in _TEXT),
            ("generation", pa.int64()),
        ]
    )
    return pa.Table.from_batches(
        [pa.RecordBatch.from_pylist([_row(each) for each in block], schema) for block in _blocks(outcomes)],
        schema,
    )


def _blocks(outcomes: Iterable[Outcome]) -> Iterator[list[Outcome]]:
    rest = iter(outcomes)
    while block := list(islice(rest, _ROWS)):
        yield block


def _row(outcome: Outcome) -> dict[str, Any]:
    from fanout.quantities import unix_s

    started = outcome.started_at
    error = outcome.error
    row: dict[str, Any] = {
        name: getattr(outcome, name)
        for name in (*_NUMBERS, *_WHOLE, "seq", "status", "attempts", "throttles", "timed_out", "generation")
    }
    row |= {name: _text(getattr(outcome, name)) for name in (*_TEXT, "key")}
    row |= {
        "started_at": None if started is None else round(unix_s(started) * 1000),
        "error_type": None if error is None else _text(error.type),
        "error_message": None if error is None else _text(error.message),
        "output": _json(outcome.output_raw),
        "input": _json(outcome.input_raw),
    }
    return row


def _json(raw: Any) -> str | None:
    return None if raw is None else bytes(raw).decode("utf-8", "replace")


def _text(value: str | None) -> str | None:
    return None if value is None else value.encode("utf-8", "replace").decode()
