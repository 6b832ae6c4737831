"""The examples' function in a real emulator, and the settings that lead there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fanout.emulator import EmulatorProcess

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
CONCURRENCY = 20


@pytest.fixture(scope="session")
def emulator() -> Iterator[EmulatorProcess]:
    """``price-order``, as the examples' docstrings say to start it; it counts executions by order."""
    with EmulatorProcess(
        handler=f"{EXAMPLES / 'handler.py'}:handler",
        name="price-order",
        concurrency=CONCURRENCY,
        extra=["--count-by", "id"],
    ) as running:
        yield running


@pytest.fixture
def price_order(emulator: EmulatorProcess, monkeypatch: pytest.MonkeyPatch) -> EmulatorProcess:
    """The settings of the examples' docstrings, and counts that begin with the test."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", emulator.endpoint_url)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "local")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "local")
    emulator.reset()
    return emulator
