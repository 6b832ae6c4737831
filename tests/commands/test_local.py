"""``--local``: what the handler of a run's own emulator finds, and what the run leaves behind."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

import fanout
from tests.inputs.object_server import ObjectServer

HANDLER = """
import os


def handler(event, context):
    return {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
"""
SECRETS = {
    "AWS_ACCESS_KEY_ID": "AKIASECRET",
    "AWS_SECRET_ACCESS_KEY": "secret-key",
    "AWS_SESSION_TOKEN": "secret-token",
    "AWS_PROFILE": "secret-profile",
    "AWS_DEFAULT_PROFILE": "secret-profile",
    "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/secret",
    "AWS_WEB_IDENTITY_TOKEN_FILE": "/secret/token",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/secret",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1/secret",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN": "secret",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": "/secret/file",
}
ELSEWHERE = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_ENDPOINT_URL_LAMBDA": "http://127.0.0.1:9"}


def test_a_local_function_never_sees_the_users_credentials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It finds dummy keys; calls reach it wherever the environment points; afterwards all stands again."""
    for name, value in (SECRETS | ELSEWHERE).items():
        monkeypatch.setenv(name, value)
    (tmp_path / "app.py").write_text(HANDLER)
    fanout.run("app", [{"n": 1}], out=tmp_path / "run", local=f"{tmp_path / 'app.py'}:handler")
    outcome = json.loads((tmp_path / "run" / "outcomes.jsonl").read_bytes())
    assert outcome["status"] == "succeeded", outcome
    assert not [name for name, value in outcome["output"].items() if "secret" in value.lower()]
    assert (outcome["output"]["AWS_ACCESS_KEY_ID"], outcome["output"]["AWS_REGION"]) == ("local", "us-east-1")
    assert not set(ELSEWHERE) & set(outcome["output"])
    assert {name: os.environ.get(name) for name in SECRETS | ELSEWHERE} == SECRETS | ELSEWHERE


def test_a_local_function_over_s3_reads_with_the_users_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls alone are signed with keys that open nothing, run and resume alike."""
    server = ObjectServer()
    server.objects["/lake/in.jsonl"] = b"1\n2\n3\n"
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAUSER")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.url)
    (tmp_path / "app.py").write_text(HANDLER)
    local = f"{tmp_path / 'app.py'}:handler"
    try:
        for take in (1, 3):
            fanout.run(
                "app",
                "s3://lake/in.jsonl",
                out=tmp_path / "run",
                local=local,
                take=take,
                resume=True,
                region="eu-west-1",
            )
    finally:
        server.shutdown()
        server.server_close()
    outcomes = [json.loads(line) for line in (tmp_path / "run" / "outcomes.jsonl").read_bytes().splitlines()]
    assert [outcome["status"] for outcome in outcomes] == ["succeeded"] * 3
    assert {outcome["output"]["AWS_ACCESS_KEY_ID"] for outcome in outcomes} == {"local"}
    assert len(server.headers) >= 2
    for headers in server.headers:
        assert "Credential=AKIAUSER/" in headers["authorization"]
        assert "/eu-west-1/s3/" in headers["authorization"]
