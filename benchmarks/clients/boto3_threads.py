"""boto3 and a pool of threads: what most scripts do."""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
from botocore.config import Config


def main(file: str, concurrency: int, url: str) -> None:
    config = Config(max_pool_connections=concurrency, retries={"total_max_attempts": 1})
    client = boto3.client("lambda", endpoint_url=url, config=config)

    def call(line: bytes) -> bool:
        response = client.invoke(FunctionName="lab-100000", Payload=line)
        response["Payload"].read()
        return response["StatusCode"] == 200

    lines = Path(file).read_bytes().splitlines()
    began_s = time.perf_counter()
    with ThreadPoolExecutor(concurrency) as pool:
        done = sum(pool.map(call, lines))
    print(done, time.perf_counter() - began_s)


main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
