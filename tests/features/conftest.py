"""One emulator whose handler does what its event says; streamed or not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fanout.emulator import EmulatorProcess
from tests.cli.running import Shell

HANDLER = """
import os, pathlib, time

HERE = pathlib.Path(__file__).parent


def is_first(name):
    path = HERE / name
    if path.exists():
        return False
    path.touch()
    return True


def pieces(event):
    yield "one,"
    if event.get("breaks") and is_first(event["breaks"]):
        yield "part,"
        raise ValueError("broke in the middle")
    for _ in range(event.get("mb", 0)):
        yield "x" * 1_000_000
    yield "two"


def handler(event, context):
    do = event.get("do") if isinstance(event, dict) else None
    if do == "stream":
        return pieces(event)
    if do == "nothing":
        return iter(())
    if do == "fail":
        raise ValueError("bad \\x1b[31mrecord")
    if do == "context":
        own = context.client_context
        return {
            "custom": None if own is None else own.custom,
            "arn": context.invoked_function_arn,
            "tenant": getattr(context, "tenant_id", None),
        }
    if do == "print":
        print("hello \\x1b[31mred\\x07")
        return 1
    if do == "flaky":
        for attempt in range(event["times"]):
            if is_first(f"{event['name']}-{attempt}"):
                raise KeyError("not yet")
        return "at last"
    return event
"""


@pytest.fixture(scope="session")
def featured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatorProcess]:
    """``app`` runs the handler, ``sim`` is a simulated function with an alias."""
    folder = tmp_path_factory.mktemp("handler")
    (folder / "app.py").write_text(HANDLER)
    with EmulatorProcess(
        handler=f"{folder}/app.py:handler",
        simulate=["name=sim,latency=1ms,versions=2,alias=live:2", "name=durable,durable=1h"],
        timeout_s=30,
    ) as emulator:
        yield emulator


@pytest.fixture
def user(tmp_path: Path, featured: EmulatorProcess) -> Shell:
    """A directory of a person's own, and the command."""
    return Shell(tmp_path, featured)


@pytest.fixture
def at_emulator(featured: EmulatorProcess, monkeypatch: pytest.MonkeyPatch) -> EmulatorProcess:
    """The emulator is where this process's calls go."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", featured.endpoint_url)
    return featured
