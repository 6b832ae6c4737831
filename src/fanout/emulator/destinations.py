"""Delivery of what became of Event calls: to SQS queues and SNS topics, through boto's own client.

Sent in tens where the service takes batches, off the event loop. A delivery that fails is counted
and said once for each destination; as on Lambda, nobody else learns of it. A topic never gets a record
above SNS's largest message: Lambda drops it.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

_BATCH = 10
_TRIES = 3
_RETRY_WAIT_S = 0.2
MAX_SNS_BYTES = 262_144
MAX_SQS_BATCH_BYTES = 200_000


@dataclass(frozen=True, slots=True)
class Message:
    """One message; ``attributes`` are those of a dead letter."""

    body: str
    attributes: Mapping[str, Mapping[str, str]]


class Destinations:
    """Senders, one for each ARN, started when there is something to send."""

    def __init__(self, region: str) -> None:
        self._region = region
        self._queues: dict[str, asyncio.Queue[Message]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.delivered = 0
        self.lost = 0
        self._said: set[str] = set()

    def send(self, arn: str, message: Message) -> None:
        """Send soon; never waits."""
        if arn.split(":", 3)[2] == "sns" and len(message.body.encode()) > MAX_SNS_BYTES:
            self.lost += 1
            self._say(arn, f"a record of more than {MAX_SNS_BYTES:,} bytes is dropped, as by Lambda")
            return
        queue = self._queues.get(arn)
        if queue is None:
            queue = self._queues[arn] = asyncio.Queue()
            task = asyncio.get_running_loop().create_task(self._work(arn, queue))
            self._tasks.add(task)
        queue.put_nowait(message)

    async def _work(self, arn: str, queue: asyncio.Queue[Message]) -> None:
        sender: _Sender | None = None
        while True:
            messages = [await queue.get()]
            while len(messages) < _BATCH and not queue.empty():
                messages.append(queue.get_nowait())
            batch = messages
            for attempt in range(1, _TRIES + 1):
                try:
                    if sender is None:
                        sender = await asyncio.to_thread(_Sender, arn, self._region)
                    messages = await asyncio.to_thread(sender.send, messages)
                    self.delivered += len(batch) - len(messages)
                    batch = messages
                except Exception as error:  # noqa: BLE001 - whatever boto raises: the messages are lost
                    self._say(arn, str(error))
                if not messages or attempt == _TRIES:
                    break
                await asyncio.sleep(_RETRY_WAIT_S * attempt)
            self.lost += len(messages)

    def _say(self, arn: str, error: str) -> None:
        if arn not in self._said:
            self._said.add(arn)
            what = " ".join(error.split())
            sys.stderr.write(f"fanout: cannot deliver to {arn}: {what}\n")
            sys.stderr.flush()


class _Sender:
    """A blocking client of one queue or topic."""

    def __init__(self, arn: str, region: str) -> None:
        import botocore.session
        from botocore.config import Config

        _, _, service, own_region, account, name = arn.split(":", 5)
        session = botocore.session.get_session()
        config = Config(retries={"total_max_attempts": 2}, connect_timeout=5, read_timeout=10)
        self._client: Any = session.create_client(service, region_name=own_region or region, config=config)
        self._arn = arn
        self._queue_url = ""
        if service == "sqs":
            found = self._client.get_queue_url(QueueName=name, QueueOwnerAWSAccountId=account)
            self._queue_url = found["QueueUrl"]

    def send(self, messages: list[Message]) -> list[Message]:
        """Send; returns those that were refused."""
        if not self._queue_url:
            return self._one_by_one(
                messages,
                lambda message: self._client.publish(
                    TopicArn=self._arn, Message=message.body, MessageAttributes=message.attributes
                ),
            )
        entries = [
            {"Id": str(index), "MessageBody": message.body, "MessageAttributes": message.attributes}
            for index, message in enumerate(messages)
        ]
        if sum(len(message.body.encode()) for message in messages) > MAX_SQS_BATCH_BYTES:
            return self._one_by_one(
                messages,
                lambda message: self._client.send_message(
                    QueueUrl=self._queue_url, MessageBody=message.body, MessageAttributes=message.attributes
                ),
            )
        answer = self._client.send_message_batch(QueueUrl=self._queue_url, Entries=entries)
        return [messages[int(failure["Id"])] for failure in answer.get("Failed", [])]

    @staticmethod
    def _one_by_one(messages: list[Message], send: Callable[[Message], object]) -> list[Message]:
        """Send each; returns the rest from one that failed. Raises if the first does."""
        for index, message in enumerate(messages):
            try:
                send(message)
            except Exception:
                if index == 0:
                    raise
                return messages[index:]  # those before are there: to send them again would double them
        return []
