"""Inputs that are themselves cut short: what a resume does once they have been mended."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pytest

import fanout
from fanout.errors import SourceError
from tests.inputs.object_server import ObjectServer
from tests.scripted import Scripted

VALUES = [{"id": i, "text": os.urandom(20).hex()} for i in range(1500)]
FORMS = {
    "in.jsonl.gz": gzip.compress(b"".join(json.dumps(value).encode() + b"\n" for value in VALUES)),
    "in.json": json.dumps(VALUES).encode(),
}


def run(location: str | Path, out: Path, transport: Scripted) -> fanout.RunReport:
    """The same command again and again, as cron gives it."""
    return fanout.run("f", location, out=out, resume=True, transport=transport, concurrency=20)


@pytest.mark.parametrize("name", FORMS)
def test_a_file_that_ended_too_early_may_get_the_rest(tmp_path: Path, name: str) -> None:
    """A copy that was under way: each record is sent once. Another file is refused, and so is another end."""
    path, data, transport = tmp_path / name, FORMS[name], Scripted()
    path.write_bytes(data[: len(data) // 2])
    first = run(path, tmp_path / "run", transport)
    assert (first.exit_code, first.halted_by) == (2, "source")
    assert str(first.run["message"]).endswith(" records): a resume goes on once the rest of it is there")
    assert "fanout resume" in first.next_commands[0]
    assert 0 < transport.count < len(VALUES)

    last = len(data) // 2 - 1
    for other in (b"[" + data, data[:last] + bytes([data[last] ^ 1]) + data[last + 1 :]):
        path.write_bytes(other)
        with pytest.raises(SourceError, match="is not the input the run began with: its size was"):
            run(path, tmp_path / "run", transport)

    path.write_bytes(data[: len(data) * 3 // 4])  # more of it, and not yet all
    assert run(path, tmp_path / "run", transport).exit_code == 2
    path.write_bytes(data)
    whole = run(path, tmp_path / "run", transport)
    assert (whole.exit_code, whole.counts["succeeded"]) == (0, len(VALUES))
    assert sorted(json.loads(call.body)["id"] for call in transport.calls) == list(range(len(VALUES)))


def test_a_file_of_a_run_that_was_stopped_may_not_grow(tmp_path: Path) -> None:
    """Only an end that came too early is mended by a later one."""
    path, data, out = tmp_path / "in.json", FORMS["in.json"], tmp_path / "run"
    path.write_bytes(data[:9000])
    run(path, out, Scripted())
    state = json.loads((out / "run.json").read_text())
    (out / "run.json").write_text(json.dumps({**state, "halted_by": "sigterm"}))
    path.write_bytes(data)
    with pytest.raises(SourceError, match="its size was 9,000 bytes and is"):
        run(path, out, Scripted())


def test_an_object_that_ends_too_early_is_mended_and_run_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What takes its place has another ETag: no resume is suggested, which would be refused."""
    server = ObjectServer()
    for name, value in {
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.url)
    server.objects["/lake/in.jsonl.gz"] = FORMS["in.jsonl.gz"][:9000]
    report = run("s3://lake/in.jsonl.gz", tmp_path / "run", Scripted())
    assert report.exit_code == 2
    assert str(report.run["message"]).endswith(" records): mend it, and run it anew")
    assert report.resume_command is None
    server.shutdown()
    server.server_close()


def test_a_file_that_ends_before_its_first_record_leaves_nothing_to_resume(tmp_path: Path) -> None:
    path = tmp_path / "in.json"
    path.write_bytes(b'[{"id": 1, "te')
    with pytest.raises(SourceError, match="in the middle of its JSON array: try again once the rest of it"):
        fanout.run("f", path, out=tmp_path / "run", transport=Scripted(), concurrency=2)
    assert not (tmp_path / "run").exists()
