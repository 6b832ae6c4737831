"""Uploads to an S3 that refuses, is busy, hangs up or loses its answer: an object is whole, or not there."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from shlex import quote
from typing import Any

import pytest

from fanout.aws import ServiceClients
from fanout.errors import JournalError
from fanout.outputs import s3
from tests.cli.inside import Inside
from tests.inputs.object_server import ObjectServer

Where = Callable[[Any], bool]
Fault = Callable[[Any], None]
WHERE: dict[str, Where] = {
    "begin": lambda request: "?uploads" in request.path,
    "part": lambda request: "partNumber=2" in request.path,
    "end": lambda request: request.command == "POST" and "?uploadId" in request.path,
    "results": lambda request: "/part-00000" in request.path,
    "manifest": lambda request: "manifest.json" in request.path,
    "export": lambda request: "out.jsonl" in request.path,
}


def _lost(request: Any) -> None:
    request.put_together(request.path.partition("?")[0])
    request.cut()


def _say_nothing(request: Any) -> None:
    request.server.is_over.wait(30)
    request.close_connection = True


FAULTS: dict[str, Fault] = {
    "denied": lambda request: request.fail(403, "AccessDenied"),
    "busy": lambda request: request.fail(503, "SlowDown"),
    "damaged": lambda request: request.fail(400, "BadDigest"),
    "cut": lambda request: request.cut(),
    "lost": _lost,
    "silent": _say_nothing,
}
SAID = {"denied": "access denied: the credentials need s3:PutObject", "busy": "S3 answers SlowDown (503)"}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectServer]:
    """A bucket, and an environment that leads to it without waits between tries."""
    monkeypatch.setattr("fanout.patience.WAITS_S", (0.0, 0.0))
    for name, value in (("ACCESS_KEY_ID", "a"), ("SECRET_ACCESS_KEY", "b"), ("REGION", "us-east-1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    server = ObjectServer()
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.url)
    monkeypatch.setattr("fanout.aws.session.SERVICE_READ_TIMEOUT_S", 0.3)
    yield server
    server.is_over.set()
    server.shutdown()
    server.server_close()


def misbehave(server: ObjectServer, where: str, fault: str, times: int) -> None:
    """Let so many requests of a kind go wrong."""
    left = [times]

    def behave(request: Any) -> bool:
        if not left[0] or not WHERE[where](request):
            return False
        left[0] -= 1
        FAULTS[fault](request)
        return True

    server.behave = behave


@pytest.mark.parametrize(
    ("where", "fault", "times"),
    [
        ("begin", "busy", 2),
        ("part", "damaged", 2),
        ("part", "cut", 2),
        ("end", "busy", 1),
        ("end", "lost", 1),
        ("part", "denied", 99),
        ("end", "cut", 99),
    ],
)
async def test_an_object_is_whole_or_not_there(
    server: ObjectServer, monkeypatch: pytest.MonkeyPatch, where: str, fault: str, times: int
) -> None:
    """What passes is tried again; what does not is one line, and leaves no part behind."""
    monkeypatch.setattr(s3, "PART_BYTES", 1 << 10)
    misbehave(server, where, fault, times)
    data = os.urandom(2500)
    clients = ServiceClients()
    failure = ""
    try:
        async with s3.S3Upload(clients, "lake", "key", content_type="text/plain") as upload:
            await upload.write(data)
            await upload.finish()
    except JournalError as error:
        failure = str(error)
    await clients.aclose()
    assert server.objects == ({} if failure else {"/lake/key": data})
    assert server.parts == {}
    assert bool(failure) == (times == 99)
    if failure:
        assert failure.startswith(
            "s3://lake/key cannot be written: " + SAID.get(fault, "S3 cannot be reached")
        )
        assert "\n" not in failure


@pytest.mark.parametrize(
    ("where", "fault"), [("results", "busy"), ("manifest", "cut"), ("results", "silent")]
)
def test_the_run_stays_as_it_ended_and_the_upload_is_done_again(
    inside: Inside, server: ObjectServer, where: str, fault: str
) -> None:
    """Exit 5 in place of 0, one line that names the command; no manifest names what is not there."""
    inside.write("in.jsonl", 2)
    misbehave(server, where, fault, 99)
    done = inside.run("run", "fast", "in.jsonl", "--out", "run", "--results", "s3://lake/res/", "--quiet")
    assert (done.code, done.err.count("\n")) == (5, 1), done.err
    assert SAID.get(fault, "S3 cannot be reached") in done.err
    assert f"; do it again with `fanout export {quote(f'{inside.directory}/run')} --results`" in done.err
    assert not any("manifest.json" in key for key in server.objects)
    state, journal = inside.state(), (inside.directory / "run" / "outcomes.jsonl").read_bytes()
    assert (state["state"], state["exit_code"], state["counts"]) == ("finished", 5, {"succeeded": 2})
    server.behave = None
    assert inside.run("export", "run", "--results").code == 0
    assert inside.state()["exit_code"] == 0
    assert server.objects[f"/lake/res/{state['id']}/2/part-00000.jsonl"] == journal
    assert f"/lake/res/{state['id']}/manifest.json" in server.objects
    assert inside.run("resume", "run", "--quiet").code == 0


@pytest.mark.parametrize("fault", ["denied", "cut", "silent"])
def test_an_export_that_fails_can_be_done_again(
    inside: Inside, server: ObjectServer, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """Exit 2 in one line; a silence counts towards the patience."""
    if fault == "silent":
        monkeypatch.setattr("fanout.patience.PATIENCE_S", 0.5)
    inside.write("in.jsonl", 2)
    assert inside.run("run", "fast", "in.jsonl", "--out", "run", "--quiet").code == 0
    misbehave(server, "export", fault, 99)
    before = len(server.requests)
    words = ("export", "run", "--outcomes", "-o", "s3://lake/out.jsonl")
    reason = SAID.get(fault, "S3 cannot be reached")
    inside.run(*words).assert_one_line(2, f"s3://lake/out.jsonl cannot be written: {reason}")
    if fault != "cut":  # which aiohttp repeats by itself
        assert len(server.requests) - before == {"denied": 1, "silent": 2}[fault]
    assert server.objects == {}
    server.behave = None
    assert inside.run(*words).code == 0
    assert server.objects["/lake/out.jsonl"].count(b"\n") == 2
