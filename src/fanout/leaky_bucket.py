"""aiolimiter's leaky bucket, without the package's look at its own version.

``import aiolimiter`` imports importlib.metadata and searches the installed packages: 50 ms before every
first call. The module that holds the bucket needs nothing of that, so it is loaded by itself.
"""

from __future__ import annotations

import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiolimiter import AsyncLimiter

__all__ = ["AsyncLimiter"]


def _by_itself() -> type[AsyncLimiter] | None:
    package = None if "aiolimiter" in sys.modules else PathFinder.find_spec("aiolimiter")
    if package is None or package.submodule_search_locations is None:  # or it is in a zip
        return None
    found = PathFinder.find_spec("aiolimiter.leakybucket", package.submodule_search_locations)
    if found is None or found.loader is None:
        return None
    module = module_from_spec(found)
    found.loader.exec_module(module)
    limiter: type[AsyncLimiter] | None = getattr(module, "AsyncLimiter", None)
    return limiter


if not TYPE_CHECKING:
    AsyncLimiter = _by_itself()
    if AsyncLimiter is None:
        from aiolimiter import AsyncLimiter
