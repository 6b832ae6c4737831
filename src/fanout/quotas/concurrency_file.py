"""The file of ``--concurrency @FILE``, read again and again while a run goes on."""

from __future__ import annotations

import logging
from pathlib import Path

from fanout.config import Concurrency, parse_concurrency
from fanout.errors import ConfigError

REREAD_S = 1.0
_MOST_BYTES = 20  # whatever is longer is no number: the file was named by mistake

_logger = logging.getLogger("fanout")


class ConcurrencyFile:
    """A file with ``N``, ``P%`` or ``auto`` in it, read at most once a second.

    Contents that say nothing (an editor has just emptied it) keep the last good word, and are told
    as a warning once until the file is good again. Raises ConfigError if it was never good.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._last: Concurrency | None = None
        self._read_at_s = float("-inf")
        self._is_told = False

    def read(self, now_s: float) -> Concurrency:
        """The last good word. Reads a small file, and so may block for a moment."""
        if self._last is not None and now_s - self._read_at_s < REREAD_S:
            return self._last
        self._read_at_s = now_s
        try:
            self._last = self._parse()
            self._is_told = False
        except (OSError, ValueError) as error:
            if self._last is None:
                raise ConfigError(
                    f"concurrency is '@{self.path}': {error}; write a whole number from 1, a share such as "
                    "50%, or auto into the file"
                ) from error
            if not self._is_told:
                self._is_told = True
                _logger.warning("--concurrency @%s: %s; the last number stays", self.path, error)
        return self._last

    def _parse(self) -> Concurrency:
        with Path(self.path).open("rb") as file:
            text = file.read(_MOST_BYTES + 1).decode().strip()
        if len(text) > _MOST_BYTES:
            raise ValueError("is not a number")
        if text.startswith("@"):
            raise ValueError("names another file")
        return parse_concurrency(text)
