"""What goes wrong with S3: another Region, silence, refusals, objects that end or change too soon."""

from __future__ import annotations

import gzip
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

import fanout
from fanout.aws import ServiceClients
from fanout.aws import session as aws_session
from fanout.aws.s3_faults import fault_of
from fanout.errors import SourceError
from fanout.inputs import InputOptions, Source, open_source
from tests.inputs.object_server import ObjectServer, as_s3
from tests.inputs.reading import read_all, read_until_failure
from tests.scripted import Scripted

RECORDS = [json.dumps({"id": i}).encode() for i in range(60_000)]
LINES = b"".join(record + b"\n" for record in RECORDS)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectServer]:
    """The small server as S3, waits without length, and silence of a fifth of a second."""
    monkeypatch.setattr(aws_session, "SERVICE_READ_TIMEOUT_S", 0.2)
    with as_s3(monkeypatch, waits_s=(0.0,) * 4) as made:
        made.objects["/lake/in.jsonl"] = LINES
        yield made


def opened(location: str = "s3://lake/in.jsonl", **options: Any) -> Source:
    """The source of an object."""
    return open_source(location, InputOptions(**options), clients=ServiceClients)


def payloads(items: list[Any]) -> list[bytes]:
    """What would be sent."""
    return [item.payload for item in items]


@pytest.mark.parametrize(
    ("status", "code"), [(301, "PermanentRedirect"), (400, "AuthorizationHeaderMalformed")]
)
async def test_a_bucket_in_another_region_is_read_there(server: ObjectServer, status: int, code: str) -> None:
    """S3 says where it is, and the next request is signed for that Region: objects and listings alike."""

    def behave(handler: Any) -> bool:
        if "/eu-west-1/s3/" in handler.headers["Authorization"]:
            return False
        handler.fail(status, code, region="eu-west-1")
        return True

    server.behave = behave
    assert payloads(await read_all(opened())) == RECORDS
    assert len(server.requests) >= 2


async def test_a_redirection_without_an_end_is_one_line(server: ObjectServer) -> None:
    """It is no server that cannot be reached, and no time will heal it."""

    def redirect(handler: Any) -> bool:
        handler.fail(301, "PermanentRedirect")
        return True

    server.behave = redirect
    _, failure = await read_until_failure(opened("s3://lake/i.jsonl"))
    assert "the bucket is elsewhere, and not where" in str(failure)


@pytest.mark.parametrize("pays", [False, True])
async def test_the_requester_pays_when_asked_to(server: ObjectServer, pays: bool) -> None:
    """By the header, on each request, those after a cut too."""
    server.cuts = [1000]
    await read_all(opened(request_payer=pays))
    assert len(server.headers) == 2
    for headers in server.headers:
        assert headers.get("x-amz-request-payer") == ("requester" if pays else None)


async def test_silence_is_ended_and_the_object_taken_up_where_it_fell_silent(server: ObjectServer) -> None:
    """A server that sends no more, in mid-object and before the first byte."""
    server.stalls = [200_000, 0, 50_000]
    assert payloads(await read_all(opened())) == RECORDS
    assert len(server.requests) == 4


async def test_a_url_that_falls_silent_is_taken_up_where_it_did(
    server: ObjectServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an object is."""
    monkeypatch.setattr("fanout.inputs.http._SILENCE_S", 0.2)
    monkeypatch.setattr("fanout.inputs.http._SILENCE_AGAIN_S", 0.2)
    server.stalls = [200_000, 0, 50_000]
    assert payloads(await read_all(opened(f"{server.url}/lake/in.jsonl"))) == RECORDS
    assert [wanted for _, wanted in server.requests] == [
        None,
        "bytes=200000-",
        "bytes=200000-",
        "bytes=250000-",
    ]


@pytest.mark.parametrize("location", ["s3://lake/in.jsonl", "{url}/lake/in.jsonl"])
async def test_what_keeps_a_run_waiting_is_said(
    server: ObjectServer, monkeypatch: pytest.MonkeyPatch, location: str
) -> None:
    """A silence while it lasts, and a busy server before it is asked again; trouble of a moment is not."""
    monkeypatch.setattr("fanout.inputs.http._SILENCE_S", 0.2)
    monkeypatch.setattr("fanout.inputs.delays.NOTABLE_S", 0.4)
    place = location.format(url=server.url)

    async def said(*, delay_s: float = 0.0, stalls: tuple[int, ...] = ()) -> list[str]:
        notices: list[str] = []
        server.cuts, server.stalls = ([] if stalls else [200_000]), list(stalls)
        requests = len(server.requests)

        def behave(handler: Any) -> bool:
            if stalls or len(server.requests) != requests + 2:
                return False
            handler.fail(503, "SlowDown", retry_after=str(delay_s))
            return True

        server.behave = behave
        source = open_source(place, clients=ServiceClients, on_notice=notices.append)
        assert payloads(await read_all(source)) == RECORDS
        return notices

    assert await said() == []
    busy = "answers HTTP 503" if "{" in location else r"broke off: S3 answers SlowDown \(503\)"
    (line,) = await said(delay_s=0.5)
    assert re.match(rf"{place}: {busy}.*[a-z]; waiting$", line)
    for name in ("fanout.inputs.s3.SILENT_S", "fanout.inputs.bytes_source.SILENT_S"):
        monkeypatch.setattr(name, 0.1)
    assert await said(stalls=(200_000,)) == [f"{place}: nothing came for 5 s; waiting"]


@pytest.mark.parametrize("number", [0, 1], ids=["at first", "in mid-read"])
@pytest.mark.parametrize("location", ["s3://lake/in.jsonl", "s3://lake/", "{url}/lake/in.jsonl"])
def test_a_run_waits_as_long_as_a_busy_server_asks(server: ObjectServer, location: str, number: int) -> None:
    """503 with Retry-After, for an object, a listing, a URL: then it goes on, and sends each record once."""
    times: list[float] = []

    def behave(handler: Any) -> bool:
        times.append(time.monotonic())
        if len(times) == number + 1:
            handler.fail(503, "SlowDown", retry_after="0.7")
            return True
        if "list-type" in handler.path:
            handler.reply(LISTED[len(times) > number + 1])
            return True
        return False

    records = RECORDS[:2000]
    server.objects["/lake/in.jsonl"] = b"\n".join(records)
    server.behave, server.cuts = behave, [20_000] if number else []
    transport = Scripted()
    report = fanout.run("f", location.format(url=server.url), transport=transport, concurrency=10)
    sent = sorted(call.body for call in transport.calls)
    if location.endswith("/"):
        assert len(sent) == 1 + number
    else:
        assert sent == sorted(records)
    assert report.exit_code == 0
    assert times[number + 1] - times[number] >= 0.7


def listing(key: str, more: str) -> bytes:
    """A page of one key."""
    return (
        f"<ListBucketResult><IsTruncated>{str(bool(more)).lower()}</IsTruncated>{more}"
        f"<Contents><Key>{key}</Key>"
        "<LastModified>2026-11-27T10:00:00.000Z</LastModified><ETag>e</ETag><Size>1</Size></Contents>"
        "</ListBucketResult>"
    ).encode()


LISTED = [listing("a", "<NextContinuationToken>t</NextContinuationToken>"), listing("b", "")]


async def test_silence_without_end_is_told(server: ObjectServer) -> None:
    """After the tries that there are; what came before it is there."""
    server.stalls = [800_000, *[0] * 20]
    items, failure = await read_until_failure(opened())
    assert payloads(items) == RECORDS[: len(items)]
    assert re.match(r"s3://lake/in.jsonl: broke off: .* \(after [0-9,]+ records\)$", str(failure))


@pytest.mark.parametrize("location", ["s3://lake/in.jsonl", "s3://lake/*.jsonl", "s3://lake/in/"])
async def test_a_server_that_never_answers_is_asked_twice(
    server: ObjectServer, monkeypatch: pytest.MonkeyPatch, location: str
) -> None:
    """Its silence is what patience is made of: two of them are half a minute."""
    monkeypatch.setattr("fanout.patience.PATIENCE_S", 0.4)
    server.behave = lambda _: server.is_over.wait(10)
    items, failure = await read_until_failure(opened(location))
    assert (items, len(server.requests)) == ([], 2)
    assert str(failure).startswith(f"{location}: S3 cannot be reached: Read timeout on endpoint URL")


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (403, "AccessDenied", "access denied: the credentials need s3:GetObject"),
        (404, "NoSuchKey", "no such object"),
        (404, "NoSuchBucket", "no such bucket"),
        (403, "InvalidAccessKeyId", "S3 does not know the access key"),
        (403, "SignatureDoesNotMatch", "secret key"),
        (403, "RequestTimeTooSkewed", "clock"),
        (400, "ExpiredToken", "expired"),
        (403, "InvalidObjectState", "is archived: restore it first"),
        (412, "PreconditionFailed", "ETag has changed"),
        (503, "SlowDown", "S3 answers SlowDown (503)"),
    ],
)
def test_a_refusal_is_said_in_words(status: int, code: str, words: str) -> None:
    """And only what may pass is asked again."""
    reply: Any = {"Error": {"Code": code, "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    text, is_passing = fault_of(ClientError(reply, "GetObject"), "s3:GetObject")
    assert words in text
    assert is_passing == (status == 503)


@pytest.mark.parametrize("is_begun", [False, True], ids=["at first", "in mid-read"])
async def test_a_refusal_is_one_line(server: ObjectServer, is_begun: bool) -> None:
    """It names the object, before the first record and after it."""
    count = 0

    def behave(handler: Any) -> bool:
        nonlocal count
        count += 1
        if is_begun and count == 1:
            return False
        handler.fail(403, "AccessDenied")
        return True

    server.behave, server.cuts = behave, [800_000] if is_begun else []
    items, failure = await read_until_failure(opened())
    assert str(failure).startswith("s3://lake/in.jsonl: access denied: ")
    assert "\n" not in str(failure)
    assert payloads(items) == RECORDS[: len(items)]
    assert is_begun or not items  # on a busy machine the cut may overtake what came before it


async def test_a_slow_down_before_the_first_byte_is_waited_out(server: ObjectServer) -> None:
    """As one in mid-read is."""
    server.answers = [503, 503]
    assert payloads(await read_all(opened())) == RECORDS


async def test_a_truncated_gzip_is_one_line(server: ObjectServer) -> None:
    """What could be unpacked is there."""
    server.objects["/lake/in.jsonl.gz"] = gzip.compress(LINES)[:-2000]
    items, failure = await read_until_failure(opened("s3://lake/in.jsonl.gz"))
    assert payloads(items) == RECORDS[: len(items)]
    assert items
    assert re.match(r"s3://lake/in.jsonl.gz: ends in the middle of its gzip data \(after", str(failure))


def test_a_cut_that_never_heals_ends_the_run_and_can_be_gone_on_with(
    server: ObjectServer, tmp_path: Path
) -> None:
    """Exit 2, the sum whole; the resume sends the rest, each record once."""
    sent: list[bytes] = []

    def run() -> fanout.RunReport:
        transport = Scripted()
        report = fanout.run(
            "f", "s3://lake/in.jsonl", out=tmp_path / "run", transport=transport, concurrency=10, resume=True
        )
        sent.extend(call.body for call in transport.calls)
        return report

    server.cuts = [800_000, *[0] * 20]
    report = run()
    assert report.exit_code == 2
    assert 0 < len(sent) < 60_000
    assert report.counts["succeeded"] == len(sent)
    server.cuts = []
    assert run().exit_code == 0
    assert sorted(sent) == sorted(RECORDS)


async def test_an_endpoint_that_can_be_none_is_not_waited_for(server: ObjectServer, monkeypatch: Any) -> None:
    """No later try would find it: one line, and no try that waits."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:x")
    with pytest.raises(
        SourceError, match=r"^s3://lake/in\.jsonl: Custom endpoint `http://127\.0\.0\.1:x` was not"
    ):
        await read_all(opened())
    assert not server.requests
