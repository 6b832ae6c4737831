"""No setting of the machine reaches these tests: no proxy, no profile, no credentials, no Region."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.service_models import share_service_models


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Every test of this folder runs on both event loops: bytes come and connections end in other ways."""
    factories: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
    if (uvloop := _uvloop()) is not None:
        factories["uvloop"] = uvloop.new_event_loop
    return factories


def pytest_itemcollected(item: pytest.Item) -> None:
    """What aiobotocore sends, it sends alike on both loops: the fast tests try it on one."""
    if item.name.endswith("sdk]") and "[uvloop" in item.name:
        item.add_marker(pytest.mark.slow)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """uvloop knows no virtual time: tests that want it run on asyncio's loop alone."""
    items[:] = [
        item for item in items if not (item.get_closest_marker("looptime") and "[uvloop" in item.name)
    ]


def _uvloop() -> Any:
    try:
        import uvloop
    except ImportError:  # Windows
        return None
    return uvloop


@pytest.fixture(autouse=True, scope="package")
def _bare_environment() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ:
            if name.startswith(("AWS_", "_X_AMZN")) or name.lower().endswith("_proxy"):
                patch.delenv(name)
        patch.setenv("AWS_CONFIG_FILE", "/nonexistent")
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        share_service_models(patch)
        yield
