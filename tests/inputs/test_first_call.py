"""The first call of a run over an object: it waits for the first bytes, not for the last ones."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import pytest

import fanout
from fanout.model import Reply
from tests.inputs.object_server import ObjectServer, as_s3
from tests.scripted import Call, Scripted, ok

LINES = 1_000_000


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectServer]:
    """The small server as S3, with a million lines."""
    with as_s3(monkeypatch) as made:
        yield made


@pytest.mark.parametrize(
    ("location", "round_trips"),
    [
        pytest.param("s3://lake/in.jsonl", 1, id="an object"),
        pytest.param("s3://lake/*.jsonl", 2, id="a pattern", marks=pytest.mark.slow),
    ],
)
def test_a_million_lines_begin_within_a_round_trip_or_two(
    server: ObjectServer, location: str, round_trips: int
) -> None:
    """Counted, not timed: what the server had been asked for, and had sent, when the first call was made."""
    data = b"".join(b'{"n":%d,"text":"forty bytes that lie beside it"}\n' % number for number in range(LINES))
    server.objects["/lake/in.jsonl"] = data
    etag = hashlib.md5(data).hexdigest()
    page = (
        "<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>in.jsonl</Key>"
        f"<LastModified>2026-11-27T10:00:00.000Z</LastModified><ETag>&quot;{etag}&quot;</ETag>"
        f"<Size>{len(data)}</Size></Contents></ListBucketResult>"
    )

    def behave(handler: Any) -> bool:
        if "list-type" not in handler.path:
            return False
        handler.reply(page.encode())
        return True

    server.behave = behave
    seen: list[tuple[int, int]] = []

    def answer(call: Call) -> Reply:
        seen.append((len(server.requests), server.served))
        return ok(call.body)

    report = fanout.run("f", location, transport=Scripted(answer), concurrency=1, enough=1)
    assert report.counts["succeeded"] >= 1
    requests, served = seen[0]
    assert requests == round_trips
    assert served < len(data) * 0.5  # most of that lies in the buffers of two sockets
