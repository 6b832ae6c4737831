"""aiometer over aiobotocore: the library that people take for bounded concurrency."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import aiometer
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session


async def main(file: str, concurrency: int, url: str) -> None:
    config = AioConfig(max_pool_connections=concurrency, retries={"total_max_attempts": 1})
    async with get_session().create_client("lambda", endpoint_url=url, config=config) as client:

        async def call(line: bytes) -> bool:
            response = await client.invoke(FunctionName="lab-100000", Payload=line)
            await response["Payload"].read()
            return response["StatusCode"] == 200

        lines = Path(file).read_bytes().splitlines()
        began_s = time.perf_counter()
        done = 0
        async with aiometer.amap(call, lines, max_at_once=concurrency) as results:
            async for result in results:
                done += result
        print(done, time.perf_counter() - began_s)


asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
