"""aiobotocore and a semaphore: what a careful engineer writes in thirty lines."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session


async def main(file: str, concurrency: int, url: str) -> None:
    semaphore = asyncio.Semaphore(concurrency)
    config = AioConfig(max_pool_connections=concurrency, retries={"total_max_attempts": 1})
    async with get_session().create_client("lambda", endpoint_url=url, config=config) as client:

        async def call(line: bytes) -> bool:
            async with semaphore:
                response = await client.invoke(FunctionName="lab-100000", Payload=line)
                await response["Payload"].read()
                return response["StatusCode"] == 200

        lines = Path(file).read_bytes().splitlines()
        began_s = time.perf_counter()
        results = await asyncio.gather(*(call(line) for line in lines))
        print(sum(results), time.perf_counter() - began_s)


asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
