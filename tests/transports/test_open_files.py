"""The limit of open files: raised as far as is needed, and told of when that is not possible."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("resource")

SCRIPT = """
import resource, sys
from fanout.errors import ConfigError
from fanout.transports.open_files import make_room_for
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), int(sys.argv[2])))
try:
    make_room_for(int(sys.argv[3]))
except ConfigError as error:
    print(error)
else:
    print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def room(soft: int, hard: int, connections: int) -> str:
    """What becomes of these limits; in a process of its own, as a lowered hard limit stays lowered."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(soft), str(hard), str(connections)],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_a_limit_that_is_high_enough_stays() -> None:
    """Nothing is changed without need."""
    assert room(200, 300, 100) == "200 300"


def test_a_low_soft_limit_is_raised_to_the_hard_one() -> None:
    """As every user may."""
    assert room(200, 300, 200) == "300 300"


def test_a_low_hard_limit_is_told_of_in_one_line() -> None:
    """The line says what is needed, what there is, and what to do."""
    assert room(200, 300, 1_000) == (
        "concurrency needs 1,000 connections, and this process may open 300 files: "
        "raise that (ulimit -n 1064), or give a lower concurrency"
    )
