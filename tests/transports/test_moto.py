"""Both transports against moto, which knows nothing of us."""

from __future__ import annotations

import asyncio
import io
import json
import urllib.request
import zipfile
from collections.abc import Iterator

import boto3
import pytest
from botocore.config import Config
from moto.server import ThreadedMotoServer

from fanout.classify import classify
from fanout.invoke_request import build_template
from fanout.model import Verdict
from tests.transports.wire import REGION, transport_to

both = pytest.mark.parametrize("kind", ["direct", "sdk"])


def post(url: str, members: object) -> None:
    """One JSON request to moto's own API."""
    request = urllib.request.Request(url, json.dumps(members).encode(), {"Content-Type": "application/json"})
    urllib.request.urlopen(request).close()


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    """moto in its simple mode, with the function ``f``: its URL."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    post(f"{url}/moto-api/reset", {})  # moto keeps one state for every server in the process
    post(f"{url}/moto-api/config", {"lambda": {"use_docker": False}})
    account = {
        "region_name": REGION,
        "endpoint_url": url,
        "aws_access_key_id": "a",
        "aws_secret_access_key": "b",
        "config": Config(retries={"total_max_attempts": 1}),
    }
    role = boto3.client("iam", **account).create_role(RoleName="r", AssumeRolePolicyDocument="{}")
    code = io.BytesIO()
    with zipfile.ZipFile(code, "w") as archive:
        archive.writestr("app.py", "def handler(event, context): return event")
    boto3.client("lambda", **account).create_function(
        FunctionName="f",
        Runtime="python3.13",
        Role=role["Role"]["Arn"],
        Handler="app.handler",
        Code={"ZipFile": code.getvalue()},
    )
    yield url
    server.stop()


@both
async def test_queued_replies_come_back(moto: str, kind: str) -> None:
    """One by one, in the order in which they were queued."""
    queue = f"{moto}/moto-api/static/lambda-simple/response"
    results = ['{"a": 1}', "[2]", '"drei"']
    await asyncio.to_thread(post, queue, {"results": results, "account_id": "123456789012", "region": REGION})
    template = build_template(function="f")
    async with transport_to(moto, kind) as transport:
        for result in results:
            reply = await transport.send(template, b"{}")
            assert (reply.status, reply.body) == (200, result.encode())


@both
async def test_payloads_are_echoed_by_many_calls_at_once(moto: str, kind: str) -> None:
    """Each call gets its own reply, though moto closes the connection after every one."""
    template = build_template(function=f"arn:aws:lambda:{REGION}:123456789012:function:f")
    payloads = [json.dumps({"n": n, "text": "é" * n}).encode() for n in range(40)]
    async with transport_to(moto, kind, max_connections=8) as transport:
        gate = asyncio.Semaphore(8)

        async def call(payload: bytes) -> bytes:
            async with gate:
                reply = await transport.send(template, payload)
            assert classify(reply, template).verdict is Verdict.SUCCESS
            return reply.body

        replies = await asyncio.gather(*map(call, payloads))
    assert [json.loads(reply) for reply in replies] == [json.loads(payload) for payload in payloads]


@both
async def test_event_and_dry_run_are_accepted(moto: str, kind: str) -> None:
    """202 and 204, and both are successes."""
    async with transport_to(moto, kind) as transport:
        for invocation_type, status in (("Event", 202), ("DryRun", 204)):
            template = build_template(function="f", invocation_type=invocation_type)
            reply = await transport.send(template, b"{}")
            assert reply.status == status
            assert classify(reply, template).verdict is Verdict.SUCCESS
