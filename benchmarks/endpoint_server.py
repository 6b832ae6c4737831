"""The endpoint where there is no nginx: an asyncio server that answers as the nginx configuration does.

python -m benchmarks.endpoint_server CERTIFICATE THROTTLE_RATE DELAY_MS:IS_TLS:PORT …
"""

from __future__ import annotations

import asyncio
import random
import re
import ssl
import sys
import uuid

from benchmarks.endpoint import REPLY, THROTTLE

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_FUNCTION = re.compile(rb"/functions/lab-(\d+)$")
_PROVISIONED = re.compile(rb"/functions/lab-(\d+)/provisioned-concurrency")
_NAME = uuid.uuid4().hex.encode()


class _Server(asyncio.Protocol):
    def __init__(self, delay_s: float, throttle_rate: float) -> None:
        self._delay_s = delay_s
        self._throttle_rate = throttle_rate
        self._data = b""
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._data += data
        while (end := self._data.find(b"\r\n\r\n")) >= 0:
            head = self._data[:end]
            length = _LENGTH.search(head)
            size = end + 4 + (int(length[1]) if length else 0)
            if len(self._data) < size:
                return
            self._data = self._data[size:]
            reply, delay_s = self._reply(head.split(b" ", 2)[1])
            if delay_s:
                self._loop.call_later(delay_s, self._write, reply)
            else:
                self._write(reply)

    def _write(self, reply: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(reply)

    def _reply(self, target: bytes) -> tuple[bytes, float]:
        path = target.partition(b"?")[0]
        status, body, delay_s = b"200 OK", REPLY, 0.0
        if path.endswith(b"/invocations"):
            if random.random() < self._throttle_rate:
                status, body = b"429 Too Many Requests", THROTTLE
            else:
                delay_s = self._delay_s
        elif found := _PROVISIONED.search(path):
            body = b'{"AllocatedProvisionedConcurrentExecutions":%b,"Status":"READY"}' % found[1]
        elif found := _FUNCTION.search(path):
            body = (
                b'{"Configuration":{"FunctionName":"lab","Timeout":60,"MemorySize":128,"State":"Active"},'
                b'"Concurrency":{"ReservedConcurrentExecutions":%b}}' % found[1]
            )
        else:
            status, body = b"404 Not Found", b'{"Type":"User","message":"no such resource"}'
        return (
            b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\nx-amzn-RequestId: %b\r\n"
            b"X-Amz-Executed-Version: 1\r\n\r\n%b" % (status, len(body), _NAME, body)
        ), delay_s


async def _serve(certificate: str, throttle_rate: float, ports: list[str]) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    loop = asyncio.get_running_loop()
    for port in ports:
        delay_ms, is_tls, number = map(int, port.split(":"))
        await loop.create_server(
            lambda delay_s=delay_ms / 1000: _Server(delay_s, throttle_rate),
            "127.0.0.1",
            number,
            ssl=context if is_tls else None,
            backlog=4096,
        )
    await asyncio.Event().wait()


if __name__ == "__main__":
    try:
        import uvloop as runner
    except ImportError:
        runner = asyncio
    runner.run(_serve(sys.argv[1], float(sys.argv[2]), sys.argv[3:]))
