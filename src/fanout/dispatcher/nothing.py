"""The mark that stands for no element, as None is one."""

from __future__ import annotations

import enum
from typing import Literal


class Nothing(enum.Enum):
    """No element is ready, or none will come."""

    NOTHING = enum.auto()


NOTHING: Literal[Nothing.NOTHING] = Nothing.NOTHING
