"""``--results``: a run's outcomes in S3, complete whenever a manifest names them."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import sys
import time
from shlex import quote
from typing import Any

import boto3
import pytest

import fanout
from fanout.errors import ConfigError
from fanout.outputs import s3 as s3_module
from tests.cli.inside import Inside
from tests.cli.running import Shell, end, interrupted


@pytest.fixture
def lake(inside: Inside, moto: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An empty bucket, and an environment that leads to it."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", moto)
    monkeypatch.setattr("fanout.patience.WAITS_S", (0.0, 0.0))
    s3 = boto3.resource(
        "s3",
        endpoint_url=moto,
        region_name="us-east-1",
        aws_access_key_id="a",
        aws_secret_access_key="b",
    )
    found = s3.Bucket("lake")
    if found.creation_date is None:
        found.create()
    found.objects.delete()
    return found


def read(lake: Any, key: str) -> bytes:
    data: bytes = lake.Object(key).get()["Body"].read()
    return data


def check(lake: Any, inside: Inside, prefix: str = "res") -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The manifest, and the outcomes of its parts, which are what it says they are."""
    run_id = inside.state()["id"]
    manifest = json.loads(read(lake, f"{prefix}/{run_id}/manifest.json"))
    assert manifest["run_id"] == run_id
    outcomes = []
    for part in manifest["parts"]:
        assert part["key"].startswith(f"{prefix}/{run_id}/{manifest['n']}/part-")
        body = read(lake, part["key"])
        assert (len(body), hashlib.sha256(body).hexdigest()) == (part["size"], part["sha256"])
        assert part["outcomes"] == body.count(b"\n")
        outcomes += [json.loads(line) for line in body.splitlines()]
    counts = {
        status: sum(outcome["status"] == status for outcome in outcomes) for status in manifest["counts"]
    }
    assert manifest["counts"] == counts
    return manifest, outcomes


def test_each_stop_uploads_all_outcomes_below_a_number_of_its_own(inside: Inside, lake: Any) -> None:
    """The manifest comes last, and never points at parts of another upload; a resume inherits the place."""
    inside.write("in.jsonl", 5)
    done = inside.run(
        "run", "fast", "in.jsonl", "--take", "3", "--out", "run", "--results", "s3://lake/res/", "--quiet"
    )
    assert done.code == 0, done.err
    manifest, outcomes = check(lake, inside)
    assert (manifest["n"], manifest["state"], manifest["function"]) == (1, "finished", "fast")
    assert sorted(outcome["seq"] for outcome in outcomes) == [0, 1, 2]
    assert inside.run("resume", "run", "--take", "5", "--quiet").code == 0
    manifest, outcomes = check(lake, inside)
    assert manifest["n"] == 2
    assert sorted(outcome["seq"] for outcome in outcomes) == [0, 1, 2, 3, 4]
    keys = {summary.key for summary in lake.objects.all()}
    assert len(keys) == 3
    assert inside.run("export", "run", "--results", "s3://lake/else").code == 0
    assert check(lake, inside, "else")[0]["n"] == 3


def test_the_report_names_the_upload(inside: Inside, lake: Any) -> None:
    """At once, as the one that is read from the directory later."""
    report = fanout.run("fast", [1], out="run", results="s3://lake/res/", report=False)
    assert report.run["results"]["manifest"].startswith("s3://lake/res/")
    assert report.run["results"] == inside.state()["results"]


def test_a_redrive_uploads_the_latest_outcome_of_each_record(inside: Inside, lake: Any) -> None:
    """Given another place, that is where later ones go, too."""
    inside.write("in.jsonl", 3)
    assert inside.run("run", "errors", "in.jsonl", "--out", "run", "--quiet").code == 1
    done = inside.run("redrive", "run", "--results", "s3://lake/res", "--quiet")
    assert done.code == 1
    manifest, outcomes = check(lake, inside)
    assert manifest["counts"] == {"function_error": 3}
    assert {outcome["generation"] for outcome in outcomes} == {1}
    assert inside.state()["options"]["results"] == "s3://lake/res"


def test_a_failed_upload_is_said_and_done_again(inside: Inside, lake: Any) -> None:
    """Exit 5 in place of 0; the run is as finished as it was; and its number is not used again."""
    inside.write("in.jsonl", 2)
    done = inside.run("run", "fast", "in.jsonl", "--out", "run", "--results", "s3://nowhere/res/", "--quiet")
    assert done.code == 5
    assert "the results were not uploaded: s3://nowhere/res/" in done.err
    assert "no such bucket" in done.err
    assert f"fanout export {quote(f'{inside.directory}/run')} --results" in done.err
    assert (inside.state()["exit_code"], inside.state()["state"]) == (5, "finished")
    assert len(inside.outcomes()) == 2
    assert inside.run("export", "run", "--results").code == 2
    assert inside.state()["exit_code"] == 5
    again = inside.run("export", "run", "--results", "s3://lake/res/")
    assert again.code == 0
    assert "manifest.json" in again.err
    assert check(lake, inside)[0]["n"] == 3
    assert inside.state()["exit_code"] == 0
    assert inside.run("export", "--results", "run").code == 0  # the place is the run's by now
    assert check(lake, inside)[0]["n"] == 4


def test_a_resume_of_a_finished_run_makes_up_for_a_failed_upload(inside: Inside, lake: Any) -> None:
    """What restarts commands gets there; a second time nothing is uploaded."""
    inside.write("in.jsonl", 2)
    words = ("--out", "run", "--results", "s3://later/res/", "--quiet")
    assert inside.run("run", "fast", "in.jsonl", *words).code == 5
    assert inside.run("resume", "run", "--results", "s3://lake/res/", "--quiet").code == 0
    assert check(lake, inside)[0]["n"] == 2
    assert inside.run("resume", "run", "--quiet").code == 0
    assert inside.state()["results"]["n"] == 2


def test_large_outcomes_go_up_in_parts(inside: Inside, lake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several objects, each of several parts of an upload, at the line; nothing unfinished is left."""
    from fanout.commands import upload

    monkeypatch.setattr(s3_module, "PART_BYTES", 5 << 20)
    monkeypatch.setattr(upload, "_OBJECT_BYTES", 5 << 20)
    inside.write("in.jsonl", 4, filling="x" * 3_000_000)
    done = inside.run("run", "errors", "in.jsonl", "--out", "run", "--results", "s3://lake/res/", "--quiet")
    assert done.code == 1, done.err
    manifest, outcomes = check(lake, inside)
    assert len(manifest["parts"]) == 2
    assert len(outcomes) == 4
    assert not list(lake.multipart_uploads.all())


@pytest.mark.slow
@pytest.mark.parametrize("signals", [1, 2])
def test_a_first_signal_uploads_and_a_second_does_not(
    shell: Shell, moto: str, lake: Any, signals: int
) -> None:
    """Drained, what is there goes up, and the exit code is the signal's; cut off, nothing does."""
    shell.environment["AWS_ENDPOINT_URL_S3"] = moto
    shell.write("in.jsonl", 60)
    process = shell.start("run", "slow", "in.jsonl", "--out", "run", "-j", "5", "--results", "s3://lake/res")
    with interrupted(process):
        shell.wait_for_outcomes(5)
        for _ in range(signals):
            process.send_signal(signal.SIGINT)
            time.sleep(0.1)  # two at once are one to the kernel
        assert end(process).code == 130
    run = json.loads((shell.directory / "run" / "run.json").read_text())
    manifests = [summary.key for summary in lake.objects.all() if summary.key.endswith("manifest.json")]
    if signals == 2:
        assert not manifests
        return
    assert manifests == [f"res/{run['id']}/manifest.json"]
    manifest = json.loads(read(lake, manifests[0]))
    assert (manifest["state"], manifest["halted_by"]) == ("interrupted", "sigint")
    assert manifest["counts"] == {"succeeded": len(shell.outcomes())}


def test_a_run_that_is_stopped_uploads_and_keeps_its_exit_code(inside: Inside, lake: Any) -> None:
    """A deadline, and a function that is not there any more."""
    inside.write("in.jsonl", 400)
    words = ("--out", "run", "--results", "s3://lake/res", "--quiet")
    assert inside.run("run", "slow", "in.jsonl", "-j", "2", "--deadline", "300ms", *words).code == 5
    manifest, outcomes = check(lake, inside)
    assert manifest["halted_by"] == "deadline"
    assert len(outcomes) == len(inside.outcomes())


@pytest.mark.parametrize("output_format", ["jsonl", "csv", "parquet"])
def test_every_export_can_go_to_s3(inside: Inside, lake: Any, output_format: str) -> None:
    """What arrives is what a file would have."""
    inside.write("in.jsonl", 3)
    assert inside.run("run", "fast", "in.jsonl", "--out", "run", "--quiet").code == 0
    for what in (("--outputs",), ("--outcomes",), ("--status", "succeeded")):
        words = ("export", "run", *what, "--format", output_format, "-o")
        assert inside.run(*words, "file").code == 0
        done = inside.run(*words, "s3://lake/there")
        assert (done.code, done.out) == (0, "")
        assert "to s3://lake/there" in done.err
        assert read(lake, "there") == (inside.directory / "file").read_bytes()
    done = inside.run("export", "run", "--outcomes", "-o", "s3://nowhere/x")
    done.assert_one_line(2, "s3://nowhere/x cannot be written: no such bucket")
    assert inside.run("export", "run", "--outcomes", "-o", "s3://lake/x/").code == 2


def test_parquet_without_its_extra_is_one_line(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the file is made."""
    inside.write("in.jsonl", 1)
    assert inside.run("run", "fast", "in.jsonl", "--out", "run", "--quiet").code == 0
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    done = inside.run("export", "run", "--outputs", "--format", "parquet", "-o", "o.parquet")
    done.assert_one_line(2, "pip install 'lambda-fanout[parquet]'")
    assert not (inside.directory / "o.parquet").exists()


def test_what_cannot_hold_is_refused(inside: Inside) -> None:
    """No directory to upload from, no place in S3: exit 2, and nothing is made."""
    inside.write("in.jsonl", 1)
    done = inside.run("run", "fast", "in.jsonl", "--out", "-", "--results", "s3://lake/res/")
    assert done.code == 2
    assert "give out a directory" in done.err
    for place in ("lake/res", "s3:///res"):
        done = inside.run("run", "fast", "in.jsonl", "--out", "run", "--results", place)
        assert (done.code, (inside.directory / "run").exists()) == (2, False)
        assert "give s3://BUCKET/PREFIX/" in done.err
    with pytest.raises(ConfigError, match="give out"):
        fanout.run("fast", [1], results="s3://lake/res/")


def test_the_library_uploads_too(inside: Inside, lake: Any) -> None:
    """``fanout.run(…, results=…)`` over an iterable."""
    report = fanout.run("fast", [1, 2], out=inside.directory / "run", results="s3://lake/res/")
    assert report.exit_code == 0
    assert check(lake, inside)[0]["counts"] == {"succeeded": 2}


async def test_an_upload_that_fails_halfway_leaves_nothing(
    lake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Leaving without ``finish`` aborts: no object, no unfinished upload."""
    from fanout.aws import ServiceClients

    monkeypatch.setattr(s3_module, "PART_BYTES", 5 << 20)
    clients = ServiceClients()
    with pytest.raises(RuntimeError):
        async with s3_module.S3Upload(clients, "lake", "half", content_type="text/plain") as upload:
            await upload.write(os.urandom(6 << 20))
            assert len(list(lake.multipart_uploads.all())) == 1
            raise RuntimeError
    await clients.aclose()
    assert not list(lake.multipart_uploads.all())
    assert not list(lake.objects.all())


@pytest.mark.slow
def test_a_signal_ends_an_upload_at_once(shell: Shell) -> None:
    """An S3 that never answers: the run stays finished, and the exit code is the signal's."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        shell.environment["AWS_ENDPOINT_URL_S3"] = f"http://127.0.0.1:{silent.getsockname()[1]}"
        shell.write("in.jsonl", 2)
        process = shell.start("run", "fast", "in.jsonl", "--out", "run", "--results", "s3://lake/res")
        with interrupted(process):
            held, _ = silent.accept()
            process.send_signal(signal.SIGTERM)
            ended = end(process)
            held.close()
    assert ended.code == 143
    assert "the results were not uploaded: SIGTERM came; do it again with" in ended.err
    run = json.loads((shell.directory / "run" / "run.json").read_text())
    assert (run["state"], run["results"]["error"]) == ("finished", "was not finished")
