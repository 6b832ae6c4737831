"""aiolimiter's bucket is loaded without what only its package's version needs."""

from __future__ import annotations

import runpy
import subprocess
import sys
from importlib.machinery import PathFinder
from typing import Any

import aiolimiter
import pytest

from fanout import leaky_bucket


def _loaded() -> Any:
    """The bucket as it is found now, whatever the suite has imported."""
    return runpy.run_path(leaky_bucket.__file__)["AsyncLimiter"]


def test_it_is_loaded_without_the_package() -> None:
    """And is the package's own."""
    program = (
        "import asyncio, sys\nfrom fanout.leaky_bucket import AsyncLimiter as found\n"
        "quick = 'importlib.metadata' not in sys.modules\nfrom aiolimiter import AsyncLimiter\n"
        "limiter = found(2, 1)\nasyncio.run(limiter.acquire(2))\n"
        "print(quick, found.__qualname__ == AsyncLimiter.__qualname__, found.__module__)"
    )
    # A Python of its own, without what the suite has imported.
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True", "aiolimiter.leakybucket"]


def test_a_package_that_is_imported_is_used() -> None:
    """There is nothing to save any more, and one class is enough."""
    assert _loaded() is aiolimiter.AsyncLimiter


def test_the_package_is_imported_where_it_cannot_be_found_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where packages are found in another way: the finder does not know it when it is asked first."""
    for name in [each for each in sys.modules if each.partition(".")[0] == "aiolimiter"]:
        monkeypatch.delitem(sys.modules, name)
    find = PathFinder.find_spec
    asked: list[str] = []

    def find_late(name: str, *places: Any) -> Any:
        asked.append(name)
        return None if name == "aiolimiter" and asked.count(name) == 1 else find(name, *places)

    monkeypatch.setattr(PathFinder, "find_spec", find_late)
    found = _loaded()
    assert found is sys.modules["aiolimiter"].AsyncLimiter
    assert found is not aiolimiter.AsyncLimiter
    assert asked[0] == "aiolimiter"
