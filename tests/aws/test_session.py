"""Who calls and where: profiles, Regions, endpoints, credentials and their refresh, and each fault's line."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from fanout import Dispatcher
from fanout.aws import AwsSession
from fanout.errors import ConfigError, FanoutError, FatalRefusal, RequestNotSent
from fanout.invoke_request import build_template
from fanout.transports import open_transport
from tests.transports.wire import REGION, Received, Script, Wire, http, wire

both = pytest.mark.parametrize("kind", ["direct", "sdk"])
TEMPLATE = build_template(function="f")
STATIC = ("AKIDEXAMPLE", "secret")
EXPIRED = {"x-amzn-ErrorType": "UnrecognizedClientException"}
ARN = "arn:aws:lambda:ap-south-1:123456789012:function:f"


async def base_url(**options: Any) -> str:
    """Where ``direct`` would send, and in which Region it would sign."""
    async with AwsSession(**{"function": "f", "static_credentials": STATIC, **options}) as session:
        transport: Any = await open_transport(session, kind="direct", max_connections=1, read_timeout_s=1)
        await transport.aclose()
        return f"{transport._http.endpoint.base_url} {transport._http.endpoint.region}"


@pytest.mark.parametrize(
    ("environment", "options", "expected"),
    [
        ({}, {"region": "eu-west-1"}, "https://lambda.eu-west-1.amazonaws.com eu-west-1"),
        ({"AWS_DEFAULT_REGION": "us-east-2"}, {}, "https://lambda.us-east-2.amazonaws.com us-east-2"),
        ({"AWS_REGION": "us-west-1"}, {}, "https://lambda.us-west-1.amazonaws.com us-west-1"),
        (
            {"AWS_REGION": "us-west-1"},
            {"region": "eu-west-1"},
            "https://lambda.eu-west-1.amazonaws.com eu-west-1",
        ),
        ({}, {"region": "eu-west-1", "function": ARN}, "https://lambda.ap-south-1.amazonaws.com ap-south-1"),
        ({}, {"region": "cn-north-1"}, "https://lambda.cn-north-1.amazonaws.com.cn cn-north-1"),
        (
            {"AWS_USE_FIPS_ENDPOINT": "true"},
            {"region": "us-east-1"},
            "https://lambda-fips.us-east-1.amazonaws.com us-east-1",
        ),
        (
            {"AWS_USE_DUALSTACK_ENDPOINT": "true"},
            {"region": "us-east-1"},
            "https://lambda.us-east-1.api.aws us-east-1",
        ),
        (
            {"AWS_USE_DUALSTACK_ENDPOINT": "true", "AWS_USE_FIPS_ENDPOINT": "true"},
            {"region": "us-east-1"},
            "https://lambda-fips.us-east-1.api.aws us-east-1",
        ),
        (
            {"AWS_ENDPOINT_URL": "http://localhost:9/x"},
            {"region": "us-east-1"},
            "http://localhost:9/x us-east-1",
        ),
        (
            {"AWS_ENDPOINT_URL": "http://localhost:9", "AWS_ENDPOINT_URL_LAMBDA": "https://vpce.example"},
            {"region": "us-east-1"},
            "https://vpce.example us-east-1",
        ),
        (
            {"AWS_ENDPOINT_URL_LAMBDA": "https://vpce.example"},
            {"region": "us-east-1", "endpoint_url": "http://127.0.0.1:1"},
            "http://127.0.0.1:1 us-east-1",
        ),
        (
            {"AWS_ENDPOINT_URL": "http://localhost:9", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"},
            {"region": "us-east-1"},
            "https://lambda.us-east-1.amazonaws.com us-east-1",
        ),
    ],
)
async def test_endpoints_are_botocores(
    environment: dict[str, str], options: dict[str, Any], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Region, FIPS, dual-stack and configured endpoints as every AWS tool has them."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert await base_url(**options) == expected


@pytest.mark.parametrize(
    ("environment", "options", "kind", "message"),
    [
        ({}, {}, ConfigError, r"^no Region: give --region"),
        ({}, {"region": "not a region"}, ConfigError, r"^region is invalid"),
        ({}, {"region": REGION, "profile": "nosuch"}, ConfigError, r"\(nosuch\) could not be found"),
        ({}, {"region": REGION, "endpoint_url": "localhost:9"}, ConfigError, r"^endpoint_url is invalid"),
        ({}, {"region": REGION, "endpoint_url": "ftp://x"}, ConfigError, r"^endpoint_url is"),
        ({}, {"region": REGION, "endpoint_url": "http://x:y"}, ConfigError, r"^endpoint_url is 'http://x:y'"),
        ({}, {"region": REGION, "endpoint_url": "http://x:99999"}, ConfigError, r"^endpoint_url is"),
        ({}, {"region": REGION, "endpoint_url": "http://me:pw@x"}, ConfigError, r"^endpoint_url has a user"),
        ({"AWS_ENDPOINT_URL": "nonsense"}, {"region": REGION}, ConfigError, r"^endpoint_url is invalid"),
        (
            {"AWS_CONFIG_FILE": "broken"},
            {"region": REGION},
            ConfigError,
            r"^the AWS configuration cannot be read",
        ),
        ({}, {"region": REGION, "static_credentials": None}, FatalRefusal, r"^no AWS credentials found"),
        (
            {"AWS_ACCESS_KEY_ID": "only"},
            {"region": REGION, "static_credentials": None},
            FatalRefusal,
            r"^the AWS credentials are incomplete",
        ),
    ],
)
async def test_a_wrong_setting_is_one_line(
    environment: dict[str, str],
    options: dict[str, Any],
    kind: type[FanoutError],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """The thing, what is wrong with it, what to do; never a foreign exception, never a password."""
    (tmp_path / "broken").write_text("[default\nregion")
    for name, value in environment.items():
        monkeypatch.setenv(name, str(tmp_path / value) if name == "AWS_CONFIG_FILE" else value)
    with pytest.raises(kind, match=message) as fault:
        await base_url(**options)
    assert "\n" not in str(fault.value)
    assert "pw" not in str(fault.value)


def credentials_of(endpoint: Wire) -> tuple[str, str | None]:
    """The key id and the session token of the last request that arrived."""
    headers = endpoint.received[-1].headers
    key_id = re.search(r"Credential=([^/]+)/", headers["authorization"])
    assert key_id is not None
    return key_id[1], headers.get("x-amz-security-token")


async def send_once(endpoint: Wire, kind: Any, **options: Any) -> None:
    """One call with the credentials that the session finds."""
    async with AwsSession(function="f", region=REGION, endpoint_url=endpoint.url, **options) as session:
        transport = await open_transport(session, kind=kind, max_connections=1, read_timeout_s=5)
        await transport.send(TEMPLATE, b"{}")
        await transport.aclose()


def process_profile(tmp_path: Path, seconds: list[float]) -> Path:
    """A configuration whose profile ``p`` asks a program for credentials; each answer is good for so long."""
    counter = tmp_path / "count"
    counter.write_text("0")
    program = tmp_path / "program.py"
    program.write_text(
        "import datetime as dt, json, pathlib\n"
        f"counter = pathlib.Path({str(counter)!r})\n"
        "n = int(counter.read_text())\n"
        "counter.write_text(str(n + 1))\n"
        f"lives = {seconds!r}\n"
        "end = dt.datetime.now(dt.timezone.utc) + dt.timedelta(seconds=lives[min(n, len(lives) - 1)])\n"
        "print(json.dumps({'Version': 1, 'AccessKeyId': f'KEY{n}', 'SecretAccessKey': 's',\n"
        "                  'SessionToken': f'token{n}', 'Expiration': end.isoformat()}))\n"
    )
    config = tmp_path / "config"
    config.write_text(f"[profile p]\ncredential_process = {shlex.join([sys.executable, str(program)])}\n")
    return counter


@both
async def test_credentials_come_from_the_environment(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a session token where there is one."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ENVKEY")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    async with wire() as endpoint:
        await send_once(endpoint, kind)
        assert credentials_of(endpoint) == ("ENVKEY", None)
        monkeypatch.setenv("AWS_SESSION_TOKEN", "tok+en/==")
        await send_once(endpoint, kind)
        assert credentials_of(endpoint) == ("ENVKEY", "tok+en/==")


@both
async def test_credentials_come_from_a_profile(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By option or AWS_PROFILE; from the credentials file or from a program."""
    files = tmp_path / "credentials"
    files.write_text("[q]\naws_access_key_id = FILEKEY\naws_secret_access_key = s\n")
    process_profile(tmp_path, [3600.0])
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(files))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    async with wire() as endpoint:
        await send_once(endpoint, kind, profile="q")
        assert credentials_of(endpoint) == ("FILEKEY", None)
        monkeypatch.setenv("AWS_PROFILE", "p")
        await send_once(endpoint, kind)
        assert credentials_of(endpoint) == ("KEY0", "token0")


@both
async def test_expiring_credentials_are_refreshed_once(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before they expire, in the midst of calls, and once for all calls that ask at the same time."""
    # Credentials with less than ten minutes to live must be refreshed before the next call.
    counter = process_profile(tmp_path, [60.0, 3600.0])
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    async with (
        wire() as endpoint,
        AwsSession(function="f", profile="p", region=REGION, endpoint_url=endpoint.url) as session,
    ):
        transport = await open_transport(session, kind=kind, max_connections=4, read_timeout_s=5)  # type: ignore[arg-type]
        await asyncio.gather(*(transport.send(TEMPLATE, b"{}") for _ in range(20)))
        assert credentials_of(endpoint) == ("KEY1", "token1")
        assert counter.read_text() == "2"
        await transport.aclose()


async def test_credentials_are_read_at_most_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hot path does not ask the chain for every call, and takes new ones within a second."""
    clock = {"now": 1_795_219_000.0}
    monkeypatch.setattr("fanout.transports.direct.time.time", lambda: clock["now"])
    reads = 0
    async with (
        wire() as endpoint,
        AwsSession(
            function="f", region=REGION, endpoint_url=endpoint.url, static_credentials=STATIC
        ) as session,
    ):
        original = session.frozen_credentials

        async def counted() -> Any:
            nonlocal reads
            reads += 1
            return (await original())._replace(access_key=f"KEY{reads}")

        monkeypatch.setattr(session, "frozen_credentials", counted)
        transport = await open_transport(session, kind="direct", max_connections=1, read_timeout_s=5)
        seen = []
        for step_s in (0.0, 0.5, 0.4, 0.2, 0.9, 0.2, -60.0):
            clock["now"] += step_s
            await transport.send(TEMPLATE, b"{}")
            seen.append(credentials_of(endpoint)[0])
        assert seen == ["KEY1", "KEY1", "KEY1", "KEY2", "KEY2", "KEY3", "KEY4"]
        await transport.aclose()


@both
async def test_a_refresh_that_fails_sends_nothing(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The function did not run; the fault is one line, and no library prints a traceback of its own."""
    process_profile(tmp_path, [60.0])
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setattr("fanout.transports.signed_http.CREDENTIALS_READ_EVERY_S", 0)
    async with (
        wire() as endpoint,
        AwsSession(function="f", profile="p", region=REGION, endpoint_url=endpoint.url) as session,
    ):
        transport = await open_transport(session, kind=kind, max_connections=1, read_timeout_s=5)  # type: ignore[arg-type]
        monkeypatch.setattr("fanout.aws.credentials._STILL_GOOD_S", 120)  # as if they had run out
        session._credentials._next_at_s = 0.0
        (tmp_path / "program.py").write_text("raise SystemExit('no luck')")
        with pytest.raises(RequestNotSent, match="the AWS credentials cannot be fetched") as fault:
            await transport.send(TEMPLATE, b"{}")
        assert "\n" not in str(fault.value)
        assert endpoint.received == []
        await transport.aclose()
    with pytest.raises(FatalRefusal, match=r"the AWS credentials cannot be fetched.* no luck"):
        await base_url(region=REGION, profile="p", static_credentials=None)
    assert "Traceback" not in capfd.readouterr().err


async def test_a_sign_in_that_ran_out_is_fatal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a person can renew it: no retry helps."""
    cache = tmp_path / ".aws" / "sso" / "cache"
    cache.mkdir(parents=True)
    (tmp_path / "config").write_text(
        "[profile sso]\nsso_start_url = https://example.awsapps.com/start\nsso_region = eu-west-1\n"
        "sso_account_id = 123456789012\nsso_role_name = R\n"
    )
    token = {
        "startUrl": "https://example.awsapps.com/start",
        "region": "eu-west-1",
        "accessToken": "x",
        "expiresAt": (dt.datetime.now(dt.UTC) - dt.timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    (cache / "a.json").write_text(json.dumps(token))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    with pytest.raises(FatalRefusal, match=r"sign-in is no longer valid"):
        await base_url(region=REGION, profile="sso", static_credentials=None)


async def test_the_control_plane_client_is_there() -> None:
    """Quotas and listings use it; it knows the Region and the endpoint in use."""
    async with AwsSession(function="f", region=REGION, static_credentials=STATIC) as session:
        assert session.client.meta.service_model.service_name == "lambda"
        assert (session.region, session.endpoint_url) == (REGION, f"https://lambda.{REGION}.amazonaws.com")


async def test_a_broken_data_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """botocore's data may be somebody's own (AWS_DATA_PATH): one that is no JSON is told by its path."""
    (tmp_path / "partitions.json").write_text("{")
    monkeypatch.setenv("AWS_DATA_PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=re.escape(f"{tmp_path}/partitions.json is not valid JSON")):
        async with AwsSession(function="f", region=REGION, static_credentials=STATIC):
            pass


@pytest.mark.parametrize("name", ["AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN"])
@pytest.mark.parametrize(
    "value", ["pasted\n", "a\r\nx-amz-tenant-id: other", "typo\N{EN DASH}graphic", "a b"]
)
async def test_credentials_that_no_header_can_hold_are_told(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is sent: neither a traceback nor a header of somebody else's making."""
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(variable, "good")
    monkeypatch.setenv(name, value)
    with pytest.raises(FatalRefusal, match=r"^the AWS (access key id|session token) holds .* set it again"):
        async with AwsSession(function="f", region=REGION):
            pass


@both
async def test_credentials_are_read_again_before_a_refusal_is_believed(
    kind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys are rotated while a map goes on: the file has new ones, and the map takes them."""
    files = tmp_path / "credentials"
    files.write_text("[q]\naws_access_key_id = OLDKEY\naws_secret_access_key = s\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(files))
    invokes = 0

    def respond(request: Received) -> Script:
        nonlocal invokes
        invokes += 1
        if "OLDKEY" in request.headers["authorization"] and invokes > 5:
            files.write_text("[q]\naws_access_key_id = NEWKEY\naws_secret_access_key = s\n")
            return Script(http(403, b'{"message":"invalid"}', EXPIRED))
        return Script(http(200, b"{}"))

    async with wire() as endpoint:
        endpoint.respond = respond
        async with Dispatcher(
            "f",
            profile="q",
            region=REGION,
            endpoint_url=endpoint.url,
            transport=kind,
            concurrency=2,
            rate=1000,
            function_timeout=3,
        ) as dispatcher:
            outcomes = [outcome async for outcome in dispatcher.map(range(20))]
        assert [outcome.status for outcome in outcomes] == ["succeeded"] * 20
        assert credentials_of(endpoint) == ("NEWKEY", None)
