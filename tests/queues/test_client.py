"""The client of a queue: what SQS refuses is one line, and what may pass is asked again."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from fanout.aws import AwsSession
from fanout.errors import ConfigError, FatalRefusal, SourceError
from fanout.queues import requests as requests_module
from fanout.queues.client import SqsClient
from fanout.queues.hold import Receipt
from fanout.queues.location import parse_queue
from tests.queues.stand_in import Queue, serving

pytestmark = pytest.mark.usefixtures("keys")


@asynccontextmanager
async def opened(
    queue: Queue, patch: pytest.MonkeyPatch, location: str = "sqs://jobs"
) -> AsyncIterator[SqsClient]:
    """A client of the queue, behind a server of its own. Looking up its address is slow: it is given."""
    async with serving(queue) as url, AwsSession(function="f", region="eu-west-1") as session:

        async def endpoint_of(service: str, region: str | None = None) -> str:
            return url

        patch.setattr(session, "endpoint_of", endpoint_of)
        client = await SqsClient.open(session, parse_queue(location))
        try:
            yield client
        finally:
            await client.aclose()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is asked again."""
    monkeypatch.setattr(requests_module, "PATIENCE_S", 0.0)
    monkeypatch.setattr(requests_module, "FIRST_PATIENCE_S", 0.0)


Ask = Callable[[SqsClient], Any]
ACTIONS: dict[str, Ask] = {
    "ReceiveMessage": lambda client: client.receive(10, visibility_s=60, wait_s=0),
    "DeleteMessageBatch": lambda client: client.delete([Receipt(0, "r")]),
    "ChangeMessageVisibilityBatch": lambda client: client.extend([Receipt(0, "r", 60)]),
}


@pytest.mark.parametrize(
    ("action", "status", "code", "line"),
    [
        ("GetQueueUrl", 400, "AccessDenied",
         "sqs://jobs: sqs:GetQueueUrl is denied (AccessDenied: as ordered): allow it to these credentials"),
        ("GetQueueUrl", 403, "InvalidClientTokenId",
         ("sqs://jobs: sqs:GetQueueUrl is denied (InvalidClientTokenId: as ordered): "
          "allow it to these credentials")),
        ("GetQueueUrl", 400, "InvalidAddress",
         "sqs://jobs cannot be used: InvalidAddress: as ordered"),
        ("GetQueueUrl", 503, "ServiceUnavailable",
         "sqs://jobs cannot be used: ServiceUnavailable: as ordered"),
        ("GetQueueUrl", 400, "QueueDeletedRecently",
         "there is no queue sqs://jobs in eu-west-1: check its name, --region and account"),
        ("GetQueueAttributes", 400, "AWS.SimpleQueueService.NonExistentQueue",
         "there is no queue sqs://jobs in eu-west-1: check its name, --region and account"),
    ],
)  # fmt: skip
async def test_what_is_refused_before_a_run_is_one_line(
    impatient: None, monkeypatch: pytest.MonkeyPatch, action: str, status: int, code: str, line: str
) -> None:
    """A denied action says which; all else is an error of usage."""
    queue = Queue()
    queue.faults[action] = lambda number: (status, code)
    expected = FatalRefusal if "denied" in line else ConfigError
    with pytest.raises(expected, match=f"^{re.escape(line)}$"):
        async with opened(queue, monkeypatch):
            """It does not come so far."""


async def test_what_a_queue_says_of_itself_may_be_denied(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that must be known stands there: the queue is used, and its ARN is what its URL says."""
    queue = Queue()
    queue.faults["GetQueueAttributes"] = lambda number: (403, "AccessDenied")
    async with opened(queue, monkeypatch) as client:
        assert client.redrives is None
        assert client.arn == "arn:aws:sqs:eu-west-1:123456789012:jobs"


async def test_a_queue_that_says_it_is_fifo_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever its name."""
    with pytest.raises(ConfigError, match="sqs://jobs is a FIFO queue"):
        async with opened(Queue(attributes={"FifoQueue": "true"}), monkeypatch):
            """It does not come so far."""


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize(
    ("status", "code", "line"),
    [
        (400, "QueueDoesNotExist", "sqs://jobs is gone: the queue was deleted"),
        (403, "ExpiredToken", "sqs://jobs: sqs:{permission} is denied: ExpiredToken: as ordered"),
        (400, "InvalidAddress", "sqs://jobs: {action} failed: InvalidAddress: as ordered"),
        (500, "InternalError", "sqs://jobs: {action} failed: InternalError: as ordered"),
    ],
)
async def test_what_is_refused_in_a_run_is_one_line(
    impatient: None, monkeypatch: pytest.MonkeyPatch, action: str, status: int, code: str, line: str
) -> None:
    """Of the action that was refused, by the name of its permission where that is missing."""
    queue = Queue()
    async with opened(queue, monkeypatch) as client:
        queue.faults[action] = lambda number: (status, code)
        expected = line.format(action=action, permission=action.removesuffix("Batch"))
        with pytest.raises(SourceError, match=f"^{re.escape(expected)}$"):
            await ACTIONS[action](client)


@pytest.mark.parametrize("action", ["ReceiveMessage", "DeleteMessageBatch"])
async def test_a_queue_that_cannot_be_reached_any_more_is_one_line(
    impatient: None, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    """A receive that got lost may have hidden messages: it is known until when."""
    queue = Queue()
    async with opened(queue, monkeypatch) as client:
        queue.faults[action] = lambda number: "reset"
        with pytest.raises(SourceError, match=r"^sqs://jobs cannot be reached: "):
            await ACTIONS[action](client)
        assert (client.lost_receive_s > 0) is (action == "ReceiveMessage")


async def test_too_many_in_flight_bring_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """SQS allows 120,000: no error, for some will be deleted."""
    queue, pauses = Queue(), []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    async with opened(queue, monkeypatch) as client:
        queue.faults["ReceiveMessage"] = lambda number: (403, "OverLimit")
        monkeypatch.setattr("fanout.queues.requests.asyncio.sleep", pause)
        assert await client.receive(10, visibility_s=60, wait_s=0) == []
    assert pauses == [1.0]


class _Failing(Queue):
    """A queue that says of entries that they failed, by its own fault or by the sender's."""

    def __init__(self, *answers: dict[str, bool], then: tuple[int, str] | None = None) -> None:
        super().__init__()
        self.answers = list(answers)
        self.asked: list[list[str]] = []
        if then is not None:
            self.faults["DeleteMessageBatch"] = lambda number: then if number == len(answers) else None

    def _batch(self, asked: Any, do: Any) -> tuple[int, dict[str, Any]]:
        self.asked.append([entry["ReceiptHandle"] for entry in asked["Entries"]])
        failed = self.answers.pop(0)
        return 200, {
            "Failed": [{"Id": at, "Code": "C", "SenderFault": is_ours} for at, is_ours in failed.items()]
        }


async def test_entries_that_failed_by_the_queues_own_fault_are_asked_once_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What was refused either time is given back, and nothing is sent a third time."""
    receipts = [Receipt(number, f"r{number}") for number in range(4)]
    queue = _Failing({"1": False, "2": True, "3": False}, {"3": False})
    async with opened(queue, monkeypatch) as client:
        assert [each.seq for each in await client.delete(receipts)] == [2, 3]
    assert queue.asked == [["r0", "r1", "r2", "r3"], ["r1", "r3"]]


async def test_the_second_time_can_be_refused_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the first time can."""
    queue = _Failing({"0": False}, then=(403, "AccessDenied"))
    async with opened(queue, monkeypatch) as client:
        with pytest.raises(SourceError, match="sqs:DeleteMessage is denied"):
            await client.delete([Receipt(0, "r")])


@pytest.mark.parametrize("reply", [{"Failed": [{"Id": "x"}]}, {"Failed": [{"Id": "7"}]}, {"Failed": 1}])
async def test_a_reply_that_is_not_of_sqs_is_one_line(
    monkeypatch: pytest.MonkeyPatch, reply: dict[str, Any]
) -> None:
    """A failed entry that was not asked for is no less strange than another shape."""
    queue = Queue()
    monkeypatch.setattr(queue, "_batch", lambda asked, do: (200, reply))
    async with opened(queue, monkeypatch) as client:
        with pytest.raises(SourceError, match="sqs://jobs did not answer as SQS does"):
            await client.delete([Receipt(0, "r")])


@pytest.mark.parametrize(
    ("headers", "body", "expected"),
    [
        ({}, {"__type": "com.amazonaws.sqs#OverLimit", "message": " too\n many "}, "OverLimit: too many"),
        ({}, {"__type": "AWS.SimpleQueueService.NonExistentQueue"}, "NonExistentQueue"),
        ({"x-amzn-errortype": "KmsThrottled:http://x"}, {"Message": "later"}, "KmsThrottled: later"),
        ({}, b"<html>", "HTTP 502"),
        ({}, b"[" * 100_000, "HTTP 502"),
    ],
)
def test_a_refusal_is_named_by_its_code(headers: dict[str, str], body: Any, expected: str) -> None:
    """Without the namespace, from the body or the header; what is no JSON is named by its status."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    assert str(requests_module.refusal_of(502, headers, raw)) == expected
