"""A line of an export of outputs: of each record ``seq``, ``key``, and what the function returned."""

from __future__ import annotations

from typing import Literal, Self

import msgspec

from fanout.journal import Head
from fanout.model import Status


class OutputLine(Head, kw_only=True, omit_defaults=True):
    """Read from the journal with its status, and written without it."""

    status: Status = "succeeded"
    key: str | None = None
    output: msgspec.Raw = None  # type: ignore[assignment]  # Raw | None cannot be read
    output_encoding: Literal["text", "base64"] | None = None
    output_file: str | None = None

    @property
    def has_output(self) -> bool:
        """True if the function returned anything."""
        return self.output_file is not None or self.output is not None

    def bare(self) -> Self:
        """The same without status and generation: defaults are not written."""
        self.status, self.generation = "succeeded", 0
        return self
