"""Options of reading that cannot hold: each is refused when the options are made."""

from __future__ import annotations

from typing import Any

import pytest

from fanout.errors import ConfigError
from fanout.inputs import InputOptions


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"format": "xml"}, "format is 'xml': give "),
        ({"items": "Records"}, "items is 'Records': give a JSON Pointer, such as /Records"),
        ({"items": "/Records", "format": "csv"}, "items is for JSON documents, and format is 'csv'"),
        ({"csv_delimiter": "::"}, "csv_delimiter is '::': give one ASCII character"),
        ({"csv_delimiter": ";", "format": "jsonl"}, "csv_delimiter is for CSV, and format is 'jsonl'"),
        ({"csv_header": ()}, "csv_header is (): give column names"),
        ({"csv_header": ("id", "id")}, "csv_header names the column 'id' twice: rename one"),
        ({"encoding": "rot13"}, "encoding is 'rot13': give one such as utf-8"),
        ({"encoding": "utf-9"}, "encoding is 'utf-9': give one such as utf-8"),
        ({"nan": "zero"}, "nan is 'zero': give reject | null"),
    ],
)
def test_a_wrong_option_is_named(given: dict[str, Any], said: str) -> None:
    """With what is wrong, and what to give."""
    with pytest.raises(ConfigError) as refused:
        InputOptions(**given)
    assert str(refused.value).startswith(said)
