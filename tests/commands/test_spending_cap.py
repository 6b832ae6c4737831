"""``max_cost`` beside batches, in every way in: it stops a run, and never locks one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

import fanout
from tests.scripted import Scripted

COUNT = 60


async def _slowly(count: int) -> AsyncIterator[int]:
    for number in range(count):
        yield number


def _path(directory: Path) -> Path:
    path = directory / "in.jsonl"
    path.write_text("".join(f"{number}\n" for number in range(COUNT)))
    return path


@pytest.mark.parametrize("batch", [None, 2, 7])
@pytest.mark.parametrize(
    "way",
    [
        lambda _: list(range(COUNT)),
        lambda _: (number for number in range(COUNT)),
        lambda _: _slowly(COUNT),
        _path,
    ],
    ids=["list", "generator", "async generator", "path"],
)
def test_a_small_cap_stops_batches_too(tmp_path: Path, way: Callable[[Path], Any], batch: int | None) -> None:
    """Records that wait for their batch to fill are in no call, and hold none back."""
    server = Scripted()
    report = fanout.run(
        "f", way(tmp_path), transport=server, concurrency=8, timeout=1, batch=batch, max_cost=1e-6
    )
    assert (report.state, report.halted_by, report.exit_code) == ("halted", "cost", 5)
    assert 1 <= server.count <= 10
    assert report.counts["succeeded"] <= server.count * (batch or 1)
