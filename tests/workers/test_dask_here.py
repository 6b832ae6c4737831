"""Dask itself in the test's own process: a scheduler and workers in threads, over real connections."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from distributed import Client, LocalCluster

import fanout
from fanout.errors import ConfigError
from fanout.workers import DaskCrew
from tests.cli.serving import serving
from tests.transports.wire import Received, Script, Wire, http

pytestmark = [
    pytest.mark.usefixtures("keys"),
    # Dask leaves sockets and loops of its threads to the garbage collection.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    """Two workers."""
    with LocalCluster(  # type: ignore[no-untyped-call]
        n_workers=2, threads_per_worker=1, processes=False, protocol="tcp", dashboard_address="127.0.0.1:0"
    ) as running:
        yield running


@pytest.fixture(scope="module")
def endpoint() -> Iterator[Wire]:
    """A function that answers with its payload."""
    with serving() as running:
        running.respond = _echo
        yield running


def _echo(received: Received) -> Script:
    return Script(http(200, received.body), wait_s=0.01)


def _run(endpoint: Wire, payloads: Any, out: Path, **options: Any) -> fanout.RunReport:
    fixed: dict[str, Any] = {"concurrency": 10, "rate": 5000, "function_timeout": 2, "report": False}
    return fanout.run("f", payloads, out=out, endpoint_url=endpoint.url, **fixed, **options)


def _outcomes(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "outcomes.jsonl").read_bytes().splitlines()]


def test_a_scheduler_by_its_address(tmp_path: Path, cluster: LocalCluster, endpoint: Wire) -> None:
    """Both workers take part, each record once."""
    report = _run(endpoint, range(100), tmp_path / "r", scheduler=cluster.scheduler_address)
    assert report.exit_code == 0
    assert len(report.workers) == 2
    assert sorted(each["output"] for each in _outcomes(tmp_path / "r")) == list(range(100))


def test_a_client_stays_open(tmp_path: Path, cluster: LocalCluster, endpoint: Wire) -> None:
    """It is its owner's: the run closes what is its own."""
    with Client(cluster, set_as_default=False) as client:  # type: ignore[no-untyped-call]
        report = _run(endpoint, range(20), tmp_path / "r", scheduler=client)
        assert report.exit_code == 0
        assert client.submit(sum, [1, 2]).result() == 3


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("nothing", "cannot be reached: Timed out trying to connect"),
        ("silent", "does not answer: something else than a Dask scheduler is there, or it stands still"),
        ("web", "is not a Dask scheduler: something else answers there"),
    ],
)
async def test_an_address_where_no_scheduler_is(
    monkeypatch: pytest.MonkeyPatch, kind: str, words: str
) -> None:
    """One line, in time, also where something takes the connection and says nothing."""
    monkeypatch.setattr("fanout.workers.dask_crew._CONNECT_S", 0.1)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while await reader.read(1000):
                if kind == "web":
                    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = 9 if kind == "nothing" else server.sockets[0].getsockname()[1]
    crew = DaskCrew(scheduler=f"tcp://127.0.0.1:{port}")
    try:
        with pytest.raises(ConfigError, match=f"^scheduler tcp://127.0.0.1:{port} {words}"):
            await crew.open()
    finally:
        await crew.aclose()
        server.close()
