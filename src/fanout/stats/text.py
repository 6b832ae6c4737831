"""Text from strangers, made safe for a terminal: no character that moves, hides or turns anything."""

from __future__ import annotations

import re
import unicodedata

# C0 and C1 controls, bidirectional overrides and isolates, line and paragraph separators, surrogates.
_HOSTILE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]+")

# Escape sequences go whole, so that colours of a log leave no "[31m" behind.
_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\^_])")


def printable(text: str, most_chars: int = 500) -> str:
    """``text`` on one line, controls as one space each run, cut with an ellipsis."""
    cut = text[: most_chars * 2]
    clean = _HOSTILE.sub(" ", _SEQUENCE.sub("", cut)).strip()
    if len(clean) > most_chars or len(text) > len(cut):
        clean = clean[: most_chars - 1] + "…"
    # Combining marks can pile up over a line's borders: a few are writing, dozens are an attack.
    if sum(map(unicodedata.combining, clean)) and _piles(clean):
        clean = "".join(char for char in clean if not unicodedata.combining(char))
    return clean


def _piles(text: str) -> bool:
    run = 0
    for char in text:
        run = run + 1 if unicodedata.combining(char) else 0
        if run > 4:
            return True
    return False
