"""What does not go with workers is refused in one line, before anything is created; by every way in."""

from __future__ import annotations

import asyncio
import sys
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

import fanout
from fanout.cli import cli
from fanout.config import Options
from fanout.errors import ConfigError
from fanout.workers.messages import Order, Settings
from fanout.workers.worker import Worker

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"workers": 2, "scheduler": "tcp://127.0.0.1:1"}, "workers and scheduler are both given"),
    ({"workers": -1}, "workers is -1"),
    ({"workers": True}, "workers is True"),
    ({"workers": 9999}, "workers is 9999, and this machine has .*: give at most"),
    ({"scheduler": "127.0.0.1:8786"}, "give tcp://HOST:PORT or tls://HOST:PORT"),
    (
        {"scheduler": 42},
        "scheduler is 42: give tcp://HOST:PORT, tls://HOST:PORT or a dask.distributed.Client",
    ),
    ({"workers": 2, "stream": True}, "stream does not go with workers"),
    ({"workers": 2, "transport": object()}, "a transport of your own"),
    ({"scheduler": "tcp://127.0.0.1:1", "local": "a.py:b"}, "local and scheduler are both given"),
]


@pytest.mark.parametrize(("options", "words"), WRONG)
@pytest.mark.parametrize("is_path", [True, False])
def test_what_does_not_go_with_workers_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], words: str, is_path: bool
) -> None:
    """Of a path and of an iterable; no run directory is left."""
    monkeypatch.setattr("fanout.commands.start.local_function", _no_function)
    path = tmp_path / "in.jsonl"
    path.write_text("1\n")
    with pytest.raises(ConfigError, match=words):
        fanout.run("f", path if is_path else [1], out=tmp_path / "r", **options)
    assert not (tmp_path / "r").exists()


def test_a_client_that_is_closed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As by its status, which is Dask's own."""
    client = _client(monkeypatch, status="closed")
    with pytest.raises(ConfigError, match="the Dask client is closed: give one that is connected"):
        fanout.run("f", [1], out=tmp_path / "r", scheduler=client)
    assert not (tmp_path / "r").exists()


async def test_a_client_of_the_loop_that_waits_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """It could never answer."""
    client = _client(monkeypatch, status="running")
    client.loop = SimpleNamespace(asyncio_loop=asyncio.get_running_loop())
    with pytest.raises(ConfigError, match="to_thread"):
        fanout.run("f", [1], scheduler=client)


def _client(monkeypatch: pytest.MonkeyPatch, *, status: str) -> Any:
    """A client of Dask that connects to nothing."""

    class Client:
        loop: Any = None

        def __init__(self) -> None:
            self.status = status

    monkeypatch.setitem(sys.modules, "distributed", SimpleNamespace(Client=Client))
    return Client()


def _no_function(*arguments: object) -> Any:
    from contextlib import nullcontext

    return nullcontext({})


def test_without_dask_one_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the command: exit 2, no traceback."""
    monkeypatch.setitem(sys.modules, "distributed", None)
    path = tmp_path / "in.jsonl"
    path.write_text("1\n")
    found = CliRunner().invoke(
        cli, ["run", "f", str(path), "--workers", "2", "--out", str(tmp_path / "r")], standalone_mode=False
    )
    assert isinstance(found.exception, ConfigError)
    assert "pip install 'lambda-fanout[dask]'" in str(found.exception)


def test_a_queue_is_refused(tmp_path: Path) -> None:
    """Its messages are one process's."""
    with pytest.raises(ConfigError, match="workers cannot share"):
        fanout.run("f", "sqs://q", out=tmp_path / "r", workers=2)


def test_a_worker_of_another_version_takes_no_work() -> None:
    """It says both versions."""

    async def begin() -> str | None:
        return (await Worker().begin(Settings("9.9", Options(function="f")))).refusal

    import asyncio

    refusal = asyncio.run(begin())
    assert refusal is not None
    assert "9.9" in refusal
    assert version("lambda-fanout") in refusal


async def test_a_worker_without_credentials_takes_no_work() -> None:
    """It looks for its own, and says that it has none."""
    settings = Settings(version("lambda-fanout"), Options(function="f", region="us-east-1"))
    greeting = await Worker().begin(settings)
    assert greeting.refusal is not None
    assert "credentials" in greeting.refusal


def test_messages_have_no_place_for_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither settings nor orders name any."""
    names = {field.name for kind in (Settings, Order) for field in msgspec.structs.fields(kind)}
    assert not any(word in name for name in names for word in ("key", "secret", "token", "credential"))
