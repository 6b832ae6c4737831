"""Options of an input: how its bytes become records. Checked when they are made."""

from __future__ import annotations

import codecs
from typing import Literal

import msgspec

from fanout.errors import ConfigError

FORMATS = ("jsonl", "json", "csv", "tsv", "lines", "parquet", "s3-inventory", "s3-batch-manifest")
RULES = 2  # the version of the rules by which records are counted; 1 is that of fanout 0.1


class InputOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options of reading an input. ``None`` means that its name and its first bytes decide.

    ``items`` is a JSON Pointer to the array of a .json input; ``rules`` the version by which a run
    counts its records, which a resume takes from run.json.
    """

    format: str | None = None
    items: str | None = None
    csv_delimiter: str | None = None
    csv_header: tuple[str, ...] | None = None
    encoding: str | None = None
    nan: Literal["reject", "null"] = "reject"  # of Parquet
    request_payer: bool = False
    rules: int = RULES

    def __post_init__(self) -> None:
        if self.format is not None and self.format not in FORMATS:
            raise ConfigError(f"format is {self.format!r}: give {' | '.join(FORMATS)}")
        if self.items is not None and self.items and not self.items.startswith("/"):
            raise ConfigError(f"items is {self.items!r}: give a JSON Pointer, such as /Records")
        if self.items is not None and self.format not in (None, "json"):
            raise ConfigError(f"items is for JSON documents, and format is {self.format!r}: leave one out")
        self._check_csv()
        if self.encoding is not None:
            self._check_encoding(self.encoding)
        if self.nan not in ("reject", "null"):
            raise ConfigError(f"nan is {self.nan!r}: give reject | null")

    def _check_csv(self) -> None:
        delimiter, header = self.csv_delimiter, self.csv_header
        if delimiter is not None and (
            len(delimiter) != 1 or delimiter in '"\r\n\0' or not delimiter.isascii()
        ):
            raise ConfigError(
                f"csv_delimiter is {delimiter!r}: give one ASCII character, such as ; or | (tab for a tab)"
            )
        if header is not None:
            if not header:
                raise ConfigError(f"csv_header is {header!r}: give column names, such as id,name")
            twice = next((name for name in header if header.count(name) > 1), None)
            if twice is not None:
                raise ConfigError(f"csv_header names the column {twice!r} twice: rename one")
        for name, value in (("csv_delimiter", delimiter), ("csv_header", header)):
            if value is not None and self.format not in (None, "csv", "tsv"):
                raise ConfigError(f"{name} is for CSV, and format is {self.format!r}: leave one out")

    @staticmethod
    def _check_encoding(encoding: str) -> None:
        try:
            "".encode(encoding)  # raises for hex and rot13, which are no encodings of text
            is_text = bool(codecs.lookup(encoding))
        except (LookupError, ValueError):
            is_text = False
        if not is_text:
            raise ConfigError(f"encoding is {encoding!r}: give one such as utf-8, utf-16, latin-1 or cp1252")
