"""A function to call: simulated, in an emulator that serves all tests of the documentation."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fanout.emulator import EmulatorProcess


@pytest.fixture(scope="session")
def emulator() -> Iterator[EmulatorProcess]:
    """``my-function``, which echoes its payload."""
    with EmulatorProcess(simulate=["name=my-function,concurrency=500"]) as running:
        yield running


@pytest.fixture
def my_function(emulator: EmulatorProcess, monkeypatch: pytest.MonkeyPatch) -> EmulatorProcess:
    """The settings that lead a reader's code to it."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", emulator.endpoint_url)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "local")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "local")
    return emulator
