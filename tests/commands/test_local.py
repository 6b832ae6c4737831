"""``--local``: what the handler of a run's own emulator finds, and what the run leaves behind."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

import fanout

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
    assert {name: os.environ.get(name) for name in SECRETS | ELSEWHERE} == SECRETS | ELSEWHERE
