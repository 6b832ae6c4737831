"""Standard streams that the caller closed: their numbers must not become those of other files."""

from __future__ import annotations

import os
import sys


def hold_standard_streams() -> frozenset[int]:
    """Put the null device where descriptor 0, 1 or 2 is closed. Returns which were.

    Otherwise the next file or socket gets the number, and whoever closes "standard input" closes that.
    """
    closed = set()
    for number, flags in ((0, os.O_RDONLY), (1, os.O_WRONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            closed.add(number)
            opened = os.open(os.devnull, flags)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
    return frozenset(closed)


def open_missing_streams() -> frozenset[int]:
    """As ``hold_standard_streams``, and the streams of ``sys`` that are missing go to the null device."""
    closed = hold_standard_streams()
    for name, number, mode in (("stdin", 0, "r"), ("stdout", 1, "w"), ("stderr", 2, "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, closefd=False, encoding="utf-8", errors="replace"))
    return closed
