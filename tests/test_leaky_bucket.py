"""aiolimiter's bucket is loaded without what only its package's version needs."""

from __future__ import annotations

import subprocess
import sys

import pytest

# As where packages are found in another way: the finder does not know it when it is asked first.
_FOUND_LATE = """
from importlib.machinery import PathFinder
find, asked = PathFinder.find_spec, []
def find_late(name, path=None, target=None):
    asked.append(name)
    return None if name == "aiolimiter" and asked.count(name) == 1 else find(name, path, target)
PathFinder.find_spec = find_late
"""


@pytest.mark.parametrize(
    ("before", "is_quick"),
    [
        ("", True),
        ("import aiolimiter", False),
        (_FOUND_LATE, False),
    ],
)
def test_it_is_aiolimiters_however_it_is_found(before: str, is_quick: bool) -> None:
    """Where it cannot be loaded by itself, the package is imported."""
    program = (
        f"{before}\nimport asyncio, sys\nfrom fanout.leaky_bucket import AsyncLimiter as found\n"
        "quick = 'importlib.metadata' not in sys.modules\nfrom aiolimiter import AsyncLimiter\n"
        "limiter = found(2, 1)\nasyncio.run(limiter.acquire(2))\n"
        "print(quick, found.__qualname__ == AsyncLimiter.__qualname__, found.__module__)"
    )
    # A Python of its own, without what the suite has imported.
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(is_quick), "True", "aiolimiter.leakybucket"]
