"""A stand-in for SQS: one standard queue over HTTP, fast, with faults to order. No code of ours.

``python -m tests.queues.stand_in`` serves one on a free port, which it prints.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import sys
import time
import uuid
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

ACCOUNT = "123456789012"


@dataclass
class StoredMessage:
    """A message of the queue. ``visible_s`` is when it can be received."""

    body: str
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    attributes: dict[str, Any] = field(default_factory=dict)
    visible_s: float = 0.0
    receives: int = 0
    receipt: str = ""


class Queue:
    """The queue's state. ``faults`` maps an action to a function of its number (0-based) that may answer
    a status and an error code instead, or None. ``sends`` counts the actions, ``abandoned`` the receives
    that nobody waited for: SQS may hide messages for one."""

    def __init__(self, name: str = "jobs", attributes: dict[str, str] | None = None) -> None:
        self.name = name
        self.messages: dict[str, StoredMessage] = {}
        self.deleted: list[str] = []
        self.actions: Counter[str] = Counter()
        self.abandoned = 0
        self.faults: dict[str, Callable[[int], tuple[int, str] | str | None]] = {}
        self.attributes = attributes or {}
        self.max_receive_count: int | None = None
        self.moved: list[StoredMessage] = []
        self.clock: Callable[[], float] = time.monotonic
        self._receipts = itertools.count()
        self._by_receipt: dict[str, str] = {}
        self._fresh: deque[str] = deque()
        self.url = ""

    def send(self, body: Any, **attributes: str) -> str:
        """Put a message in; returns its id."""
        text = body if isinstance(body, str) else json.dumps(body)
        message = StoredMessage(
            text, attributes={k: {"DataType": "String", "StringValue": v} for k, v in attributes.items()}
        )
        self.messages[message.id] = message
        self._fresh.append(message.id)
        return message.id

    @property
    def visible(self) -> list[StoredMessage]:
        """What somebody else could receive now."""
        return [each for each in self.messages.values() if each.visible_s <= self.clock()]

    def act(self, action: str, asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """One action: its status and reply."""
        number = self.actions[action]
        self.actions[action] += 1
        if (fault := self.faults.get(action)) is not None and (answer := fault(number)) is not None:
            if isinstance(answer, str):
                raise ConnectionResetError(answer)
            return answer[0], {"__type": f"com.amazonaws.sqs#{answer[1]}", "message": "as ordered"}
        handler: Callable[[dict[str, Any]], tuple[int, dict[str, Any]]] = getattr(
            self, "_" + re.sub("(?<!^)(?=[A-Z])", "_", action).lower()
        )
        return handler(asked)

    def _get_queue_url(self, asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if asked["QueueName"] != self.name:
            return 400, {"__type": "com.amazonaws.sqs#QueueDoesNotExist", "message": "no such queue"}
        return 200, {"QueueUrl": self.url}

    def _get_queue_attributes(self, asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        arn = f"arn:aws:sqs:eu-west-1:{ACCOUNT}:{self.name}"
        return 200, {"Attributes": {"QueueArn": arn, **self.attributes}}

    def _receive_message(self, asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        now_s = self.clock()
        found: list[StoredMessage] = []
        while self._fresh and len(found) < asked["MaxNumberOfMessages"]:
            if (message := self.messages.get(self._fresh.popleft())) is not None:
                found.append(message)
        if len(found) < asked["MaxNumberOfMessages"]:
            for message in self.messages.values():
                if message.visible_s <= now_s and message.receives and message not in found:
                    found.append(message)
                    if len(found) == asked["MaxNumberOfMessages"]:
                        break
        handed = []
        for message in found:
            if self.max_receive_count is not None and message.receives >= self.max_receive_count:
                self.moved.append(self.messages.pop(message.id))
                continue
            message.receives += 1
            message.visible_s = now_s + asked["VisibilityTimeout"]
            message.receipt = f"receipt-{next(self._receipts)}"
            self._by_receipt[message.receipt] = message.id
            attributes = {"ApproximateReceiveCount": str(message.receives), "SentTimestamp": "1"}
            handed.append(
                {
                    "MessageId": message.id,
                    "ReceiptHandle": message.receipt,
                    "Body": message.body,
                    "MD5OfBody": "x",
                    "Attributes": attributes,
                    "MessageAttributes": message.attributes,
                }
            )
        return 200, {"Messages": handed} if handed else {}

    def _send_message(self, asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        message = StoredMessage(asked["MessageBody"], attributes=asked.get("MessageAttributes", {}))
        self.messages[message.id] = message
        self._fresh.append(message.id)
        return 200, {"MessageId": message.id, "MD5OfMessageBody": "x"}

    def _send_message_batch(self, asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        done = [{"Id": each["Id"], **self._send_message(each)[1]} for each in asked["Entries"]]
        return 200, {"Successful": done, "Failed": []}

    def _delete_message_batch(self, asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        return self._batch(asked, self._delete)

    def _change_message_visibility_batch(self, asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        return self._batch(asked, self._change)

    def _delete_message(self, asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        return self._single(self._delete(asked))

    def _change_message_visibility(self, asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        return self._single(self._change(asked))

    def _single(self, error: str | None) -> tuple[int, dict[str, Any]]:
        return (200, {}) if error is None else (400, {"__type": f"com.amazonaws.sqs#{error}"})

    def _batch(
        self, asked: dict[str, Any], do: Callable[[dict[str, Any]], str | None]
    ) -> tuple[int, dict[str, Any]]:
        assert 1 <= len(asked["Entries"]) <= 10
        done, failed = [], []
        for entry in asked["Entries"]:
            if (code := do(entry)) is None:
                done.append({"Id": entry["Id"]})
            else:
                failed.append({"Id": entry["Id"], "Code": code, "SenderFault": True})
        return 200, {"Successful": done, "Failed": failed}

    def _delete(self, entry: dict[str, Any]) -> str | None:
        if (message_id := self._by_receipt.get(entry["ReceiptHandle"])) is None:
            return "ReceiptHandleIsInvalid"
        if self.messages.pop(message_id, None) is not None:
            self.deleted.append(message_id)
        return None

    def _change(self, entry: dict[str, Any]) -> str | None:
        message = self.messages.get(self._by_receipt.get(entry["ReceiptHandle"], ""))
        if message is None or message.receipt != entry["ReceiptHandle"]:
            return "ReceiptHandleIsInvalid"
        if message.visible_s <= self.clock():
            return "MessageNotInflight"
        message.visible_s = self.clock() + entry["VisibilityTimeout"]
        return None


class _Connection(asyncio.Protocol):
    def __init__(self, queues: dict[str, Queue], objects: dict[str, Any]) -> None:
        self._queues = queues
        self._objects = objects
        self._data = b""
        self._tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, found, rest = self._data.partition(b"\r\n\r\n")
        if not found:
            return
        headers = {}
        for line in head.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            headers[name.strip().lower()] = value.strip()
        if head.startswith(b"GET "):  # of Lambda
            self._data = b""
            self._answer_get(head.split(b" ")[1].decode().partition("?")[0])
            return
        length = int(headers[b"content-length"])
        if len(rest) < length:
            return
        self._data = rest[length:]
        action = headers[b"x-amz-target"].partition(b".")[2].decode()
        asked = json.loads(rest[:length])
        queue = self._queue_of(asked)
        wait_s = asked.get("WaitTimeSeconds", 0)
        task = asyncio.ensure_future(self._answer(queue, action, asked, wait_s))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def connection_lost(self, exc: Exception | None) -> None:
        for task in self._tasks:
            task.cancel()

    def _answer_get(self, path: str) -> None:
        found = self._objects.get(path)
        code = "" if found is not None else "x-amzn-errortype: ResourceNotFoundException\r\n"
        body = json.dumps(found or {"Message": "none"}).encode()
        status = 200 if found is not None else 404
        head = f"HTTP/1.1 {status} OK\r\n{code}content-length: {len(body)}\r\n\r\n"
        self._transport.write(head.encode() + body)

    def _queue_of(self, asked: dict[str, Any]) -> Queue:
        name = asked.get("QueueName") or asked["QueueUrl"].rpartition("/")[2]
        return self._queues.get(name) or next(iter(self._queues.values()))

    async def _answer(self, queue: Queue, action: str, asked: dict[str, Any], wait_s: float) -> None:
        until_s = time.monotonic() + wait_s
        try:
            while True:
                status, reply = queue.act(action, asked)
                if action != "ReceiveMessage" or reply or time.monotonic() >= until_s:
                    break
                queue.actions[action] -= 1
                await asyncio.sleep(0.02)
        except ConnectionResetError:
            self._transport.abort()
            return
        except asyncio.CancelledError:
            queue.abandoned += action == "ReceiveMessage"
            raise
        body = json.dumps(reply).encode()
        head = f"HTTP/1.1 {status} OK\r\ncontent-type: application/x-amz-json-1.0\r\ncontent-length: "
        self._transport.write(head.encode() + b"%d\r\n\r\n" % len(body) + body)


@asynccontextmanager
async def serving(*queues: Queue, objects: dict[str, Any] | None = None) -> AsyncIterator[str]:
    """Serve queues on a free port of 127.0.0.1, and ``objects`` by path to GETs; yields the endpoint."""
    named = {queue.name: queue for queue in queues}
    server = await asyncio.get_running_loop().create_server(
        lambda: _Connection(named, objects or {}), "127.0.0.1", 0
    )
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    for queue in queues:
        queue.url = f"{url}/{ACCOUNT}/{queue.name}"
    try:
        yield url
    finally:
        server.close()


async def _main(count: int) -> None:
    queue = Queue()
    for number in range(count):
        queue.send({"n": number})
    async with serving(queue) as url:
        print(url, flush=True)
        await asyncio.sleep(3600)


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1])))
