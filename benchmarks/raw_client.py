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
    calls = 0
    is_over = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        transport.write(_REQUEST)

    def data_received(self, data: bytes) -> None:
        if data.endswith(_END) and not _Client.is_over:
            _Client.calls += 1
            self._transport.write(_REQUEST)


async def measure(url: str, connections: int, seconds: float) -> dict[str, float]:
    """Calls a second, one at a time on each connection."""
    parts = urlsplit(url)
    context = None
    if parts.scheme == "https":
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    loop = asyncio.get_running_loop()
    _Client.calls, _Client.is_over = 0, False
    pairs = await asyncio.gather(
        *(
            loop.create_connection(_Client, parts.hostname, parts.port, ssl=context)
            for _ in range(connections)
        )
    )
    began_s, began = time.perf_counter(), _Client.calls
    await asyncio.sleep(seconds)
    calls, wall_s = _Client.calls - began, time.perf_counter() - began_s
    _Client.is_over = True
    for transport, _ in pairs:
        transport.abort()
    return {"calls": calls, "seconds": wall_s, "per_s": calls / wall_s}


if __name__ == "__main__":
    try:
        import uvloop as runner
    except ImportError:
        runner = asyncio
    print(json.dumps(runner.run(measure(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))))
