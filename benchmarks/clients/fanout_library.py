"""fanout as a library, in someone's own event loop: outcomes are counted and dropped, as the others do."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import fanout


async def main(file: str, concurrency: int, url: str) -> None:
    async with fanout.Dispatcher("lab-100000", concurrency=concurrency, endpoint_url=url) as dispatcher:
        lines = Path(file).read_bytes().splitlines()
        began_s = time.perf_counter()
        done = 0
        async for outcome in dispatcher.map(lines):
            done += outcome.ok
        print(done, time.perf_counter() - began_s)


asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
