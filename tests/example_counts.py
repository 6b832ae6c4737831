"""How many examples a property test tries: all of them, or a third where only fast tests are run."""

from __future__ import annotations

_LEAST = 20
share = 1  # set by conftest.py, before the tests are imported


def examples(count: int) -> int:
    """``count``, or its share."""
    return max(min(count, _LEAST), count // share)
