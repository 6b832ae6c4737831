"""InvokeWithResponseStream, read by botocore's own event-stream parser (which checks every CRC)."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from fanout.emulator import EmulatorProcess
from fanout.emulator.eventstream import frame, payload_chunks
from tests.emulator.conftest import lambda_client


def stream(client: Any, name: str, event: Any, **options: Any) -> tuple[list[bytes], dict[str, Any]]:
    reply = client.invoke_with_response_stream(FunctionName=name, Payload=json.dumps(event), **options)
    assert reply["StatusCode"] == 200
    assert reply["ExecutedVersion"] == "$LATEST"
    chunks, complete = [], None
    for message in reply["EventStream"]:
        assert complete is None, "InvokeComplete must be the last message"
        if "PayloadChunk" in message:
            chunks.append(message["PayloadChunk"]["Payload"])
        else:
            complete = message["InvokeComplete"]
    assert complete is not None
    return chunks, complete


def test_a_buffered_handler_comes_as_chunks(client: Any) -> None:
    """A handler that knows nothing of streams is streamed whole, and the log comes with the end."""
    chunks, complete = stream(client, "app", {"n": 1}, LogType="Tail")
    assert json.loads(b"".join(chunks))["event"] == {"n": 1}
    assert "ErrorCode" not in complete
    assert b"REPORT RequestId" in base64.b64decode(complete["LogResult"])


def test_a_generators_pieces_come_as_they_are(client: Any) -> None:
    """A handler that returns an iterator streams what it yields."""
    chunks, complete = stream(client, "app", {"do": "stream", "chunks": ["one ", "two ", "three"]})
    assert b"".join(chunks) == b"one two three"
    assert complete == {}


def test_a_failure_midway_is_told_at_the_end(client: Any) -> None:
    """What was sent stays sent; the error stands in InvokeComplete."""
    chunks, complete = stream(client, "app", {"do": "fail midway"})
    assert chunks == [b"first"]
    assert complete["ErrorCode"] == "RuntimeError"
    assert json.loads(complete["ErrorDetails"])["errorMessage"] == "lost the thread"


@pytest.mark.parametrize(
    ("event", "code"), [({"do": "raise"}, "ValueError"), ({"do": "exit", "status": 1}, "Runtime.ExitError")]
)
def test_a_function_error_is_in_invoke_complete(client: Any, event: Any, code: str) -> None:
    """There is no function-error header: status 200, no chunk, and the error at the end."""
    chunks, complete = stream(client, "app", event)
    assert chunks == []
    assert complete["ErrorCode"] == code
    assert json.loads(complete["ErrorDetails"])["errorType"] == code


def test_streams_may_exceed_six_megabytes() -> None:
    """The 6 MB limit is that of buffered responses."""
    with EmulatorProcess(
        simulate=["name=big,response_size=8MB,chunks=4", "name=bad,error_rate=1,chunks=3"]
    ) as emulator:
        client = lambda_client(emulator.endpoint_url)
        chunks, complete = stream(client, "big", {})
        assert sum(map(len, chunks)) == 8 * 1024 * 1024
        assert complete == {}
        chunks, complete = stream(client, "bad", {"some": "payload"})
        assert b"".join(chunks) == b'{"some": "payload"}'
        assert complete["ErrorCode"] == "SimulatedError"


def test_refusals_are_no_streams(client: Any) -> None:
    """An unknown function is a plain 404."""
    with pytest.raises(ClientError) as caught:
        client.invoke_with_response_stream(FunctionName="nope", Payload=b"{}")
    assert caught.value.response["Error"]["Code"] == "ResourceNotFoundException"


def test_an_invoke_of_a_streaming_handler_is_joined(client: Any) -> None:
    """A buffered caller gets the pieces as one."""
    reply = client.invoke(FunctionName="app", Payload=b'{"do":"stream","chunks":["[1,","2]"]}')
    assert json.loads(reply["Payload"].read()) == [1, 2]


def test_frames_are_what_botocore_reads() -> None:
    """Every byte of a message is accounted for."""
    from botocore.eventstream import EventStreamBuffer

    buffer = EventStreamBuffer()
    buffer.add_data(payload_chunks(b"x" * 100_000) + frame("InvokeComplete", "application/json", b"{}"))
    messages = list(buffer)
    assert [len(message.payload) for message in messages] == [65_536, 34_464, 2]
    assert messages[0].headers[":event-type"] == "PayloadChunk"
    assert payload_chunks(b"") == b""
