"""One outcome on one line of the journal: written, and read back."""

from __future__ import annotations

import json
import sys
from json.scanner import py_make_scanner  # type: ignore[attr-defined]
from typing import Annotated, Any, TypeVar

import msgspec

from fanout.model import Outcome, Status

T = TypeVar("T", bound=msgspec.Struct)
_DEEPEST = 20_000
_ENCODER = json.JSONEncoder()  # its iterator is in Python, as the decoder of deep lines is


class Head(msgspec.Struct):
    """The members of an outcome that say which record it is of, and how it ended."""

    seq: Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]
    status: Status
    generation: Annotated[int, msgspec.Meta(ge=0)] = 0


class StoredOutcome(Outcome):
    """An outcome as it is read back. msgspec reads no ``Raw | None``, but Raw with None for its default."""

    output_raw: msgspec.Raw = msgspec.field(default=None, name="output")  # type: ignore[assignment]
    input_raw: msgspec.Raw = msgspec.field(default=None, name="input")  # type: ignore[assignment]


class LineFault(ValueError):
    """A line that is not an outcome."""


def decode_line(line: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    """Read a line; ``decoder.decode`` itself is faster, and does for all but odd lines. Raises LineFault.

    Odd are lone surrogates, which msgspec refuses and JSON's grammar allows, and deep nesting.
    """
    limit = sys.getrecursionlimit()
    fault: Exception
    try:
        return decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        fault = error
    except RecursionError as error:
        fault = error
        sys.setrecursionlimit(max(limit, _DEEPEST))
    is_deep = isinstance(fault, RecursionError)
    try:
        members: dict[str, Any] = (
            _read_deep(line) if is_deep else json.loads(line, parse_constant=_refuse_constant)
        )
        for name in ("output", "input"):
            if name in members:
                text = "".join(_ENCODER.iterencode(members[name])) if is_deep else json.dumps(members[name])
                members[name] = msgspec.Raw(text.encode())
        outcome: T = msgspec.convert(members, decoder.type)
    except (ValueError, TypeError, RecursionError):
        raise LineFault(str(fault)) from fault
    finally:
        sys.setrecursionlimit(limit)
    return outcome


def _read_deep(line: bytes) -> Any:
    """Read by the decoder in Python: that in C has a limit of its own, on 3.12 one of 1,500 levels."""
    decoder = json.JSONDecoder(parse_constant=_refuse_constant)
    decoder.scan_once = py_make_scanner(decoder)  # type: ignore[attr-defined]
    return decoder.decode(line.decode("utf-8", "surrogatepass"))


def _refuse_constant(name: str) -> None:
    raise ValueError(name)
