"""What an endpoint can do: the leanest client there is, which writes the same bytes again and again.

python -m benchmarks.raw_client URL CONNECTIONS SECONDS — it prints JSON.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
import time
from urllib.parse import urlsplit

_REQUEST = (
    b"POST /2015-03-31/functions/lab-1000/invocations HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    b'Content-Length: 15\r\n\r\n{"order":12345}'
)
_END = b'{"ok":true}'


class _Client(asyncio.Protocol):
    is_counting = False
    is_over = False
    calls = 0
    cycles_s = 0.0  # from one reply to the next on the same connection, summed up

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._replied_s = time.perf_counter()
        transport.write(_REQUEST)

    def data_received(self, data: bytes) -> None:
        if not data.endswith(_END) or _Client.is_over:
            return
        now_s = time.perf_counter()
        if _Client.is_counting:
            _Client.calls += 1
            _Client.cycles_s += now_s - self._replied_s
        self._replied_s = now_s
        self._transport.write(_REQUEST)


async def measure(url: str, connections: int, seconds: float) -> dict[str, float]:
    """Calls a second, one at a time on each connection: so many, by the mean time from reply to reply."""
    parts = urlsplit(url)
    context = None
    if parts.scheme == "https":
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    loop = asyncio.get_running_loop()
    gate = asyncio.Semaphore(100)  # connections are made a hundred at a time, so that none is refused

    async def connect() -> asyncio.BaseTransport:
        async with gate:
            transport, _ = await loop.create_connection(_Client, parts.hostname, parts.port, ssl=context)
            return transport

    transports = await asyncio.gather(*(connect() for _ in range(connections)))
    await asyncio.sleep(min(1.0, seconds))
    _Client.is_counting = True
    began_s, cpu_s = time.perf_counter(), time.process_time()
    await asyncio.sleep(seconds)
    wall_s, cpu_s = time.perf_counter() - began_s, time.process_time() - cpu_s
    _Client.is_over = True
    for transport in transports:
        transport.abort()
    if not _Client.calls:
        raise SystemExit("no reply came while it was counted")
    per_s = connections * _Client.calls / _Client.cycles_s
    cpu_us = cpu_s / _Client.calls * 1e6
    return {"calls": _Client.calls, "seconds": wall_s, "per_s": per_s, "cpu_us": cpu_us}


if __name__ == "__main__":
    try:
        import uvloop as runner
    except ImportError:
        runner = asyncio
    print(json.dumps(runner.run(measure(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))))
