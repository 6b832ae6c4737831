"""Emulators and clients that know nothing of them."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from fanout.emulator import EmulatorProcess

HANDLERS = Path(__file__).parent / "handlers"
APP = f"{HANDLERS / 'app.py'}:handler"


def lambda_client(url: str, **config: Any) -> Any:
    """Make a boto3 client that asks once and waits at most a minute."""
    return boto3.client(
        "lambda",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(retries={"total_max_attempts": 1}, read_timeout=60, max_pool_connections=50, **config),
    )


def call(client: Any, name: str, event: Any = None, **options: Any) -> Any:
    """Invoke, and decode the payload beside the reply's other members."""
    reply = client.invoke(FunctionName=name, Payload=json.dumps(event), **options)
    body = reply["Payload"].read()
    return reply, json.loads(body) if body else None


def raw(url: str, request: bytes) -> bytes:
    """Send bytes on a connection of our own and read until the other side closes or falls silent."""
    host, _, port = url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(request)
        received = b""
        with contextlib.suppress(TimeoutError):
            while piece := connection.recv(65_536):
                received += piece
        return received


@pytest.fixture(scope="session")
def emulator() -> Iterator[EmulatorProcess]:
    """A handler without limits worth the name, shared by tests that leave it as they found it."""
    with EmulatorProcess(handler=APP, timeout_s=5, extra=["--account-concurrency", "1000"]) as running:
        yield running


@pytest.fixture(scope="session")
def client(emulator: EmulatorProcess) -> Any:
    """A boto3 client of the shared emulator."""
    return lambda_client(emulator.endpoint_url)
