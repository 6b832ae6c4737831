"""Error objects made of exceptions, and answers made into JSON."""

from __future__ import annotations

import json
import traceback
from decimal import Decimal
from pathlib import Path
from typing import Any

_HERE = str(Path(__file__).parent)


def describe(error: BaseException, request_id: str) -> dict[str, Any]:
    """Make the error object of a handler's exception, without our own frames."""
    ours = (_HERE, "<frozen importlib")
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(ours)
    ]
    return {
        "errorMessage": str(error),
        "errorType": type(error).__name__,
        "requestId": request_id,
        "stackTrace": traceback.format_list(
            [frame for frame in frames if not frame.filename.startswith(ours)]
        ),
    }


def to_json(value: Any) -> bytes:
    """Encode as AWS's runtime does: UTF-8, and a Decimal is a number. Halves of a character are escaped."""

    def default(other: Any) -> float:
        if isinstance(other, Decimal):
            return float(other)
        raise TypeError(f"Object of type {type(other).__name__} is not JSON serializable")

    try:
        return json.dumps(value, ensure_ascii=False, default=default).encode()
    except UnicodeEncodeError:
        return json.dumps(value, default=default).encode()
