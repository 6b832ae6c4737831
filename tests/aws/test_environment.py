"""What the environment alone decides is what botocore would have found: compared over random settings."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st

from fanout.aws import AwsSession
from fanout.aws.environment import PlainSettings, plain_settings
from fanout.errors import FanoutError
from fanout.transports.endpoint import resolve_endpoint
from tests.example_counts import examples

REGIONS = ["us-east-1", "eu-west-3", "us-gov-west-1", "cn-north-1", "us-iso-east-1", "eusc-de-east-1",
           "aws-global", "fips-us-east-1", "us-east-1-fips", "nowhere", "us-esat-1"]  # fmt: skip
URLS = ["http://localhost:9", "http://127.0.0.1:80", "https://vpce-1.example.com/x/y", "http://h/",
        "http://h/x/", "HTTP://H", "http://h:0", "ftp://h", "http://h?q", "http://me@h", "nonsense",
        "https://h:443"]  # fmt: skip
KEYS = {
    "aws_access_key_id": "FILEKEY",
    "aws_secret_access_key": "filesecret",
    "aws_session_token": "filetoken",
}

environments = st.fixed_dictionaries(
    {},
    optional={
        "AWS_ACCESS_KEY_ID": st.sampled_from(["KEY", ""]),
        "AWS_SECRET_ACCESS_KEY": st.sampled_from(["secret", ""]),
        "AWS_SESSION_TOKEN": st.sampled_from(["token", ""]),
        "AWS_SECURITY_TOKEN": st.just("old"),
        "AWS_DEFAULT_REGION": st.sampled_from([*REGIONS, ""]),
        "AWS_REGION": st.sampled_from(REGIONS),
        "AWS_ENDPOINT_URL": st.sampled_from(URLS),
        "AWS_ENDPOINT_URL_LAMBDA": st.sampled_from(URLS),
        "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": st.sampled_from(["true", "false"]),
        "AWS_USE_FIPS_ENDPOINT": st.sampled_from(["true", "false"]),
        "AWS_PROFILE": st.sampled_from(["default", "other"]),
        "AWS_RETRY_MODE": st.just("adaptive"),
        "AWS_LAMBDA_FUNCTION_NAME": st.just("me"),
    },
)
members = st.fixed_dictionaries(
    {},
    optional={
        **{name: st.just(value) for name, value in KEYS.items()},
        "region": st.sampled_from(REGIONS),
        "output": st.just("json"),
        "use_fips_endpoint": st.just("true"),
        "endpoint_url": st.just("http://configured:1"),
        "role_arn": st.just("arn:aws:iam::123456789012:role/r"),
        "services": st.just("mine"),
    },
)
files = st.none() | st.dictionaries(
    st.sampled_from(["default", "profile default", "profile other", "other", "DEFAULT"]), members, max_size=2
)


def written(path: Path, sections: Mapping[str, Mapping[str, str]] | None) -> None:
    path.unlink(missing_ok=True)
    if sections is not None:
        lines = (
            line
            for name, values in sections.items()
            for line in (f"[{name}]", *(f"{key} = {value}" for key, value in values.items()))
        )
        path.write_text("\n".join(lines) + "\n")


async def by_botocore(options: dict[str, Any]) -> PlainSettings | str:
    """What botocore finds, or the first word of why not."""
    session = AwsSession(function="f", **options)
    try:
        async with session:
            assert session.plain_base_url is None
            endpoint = await resolve_endpoint(session)
            found = await session.frozen_credentials()
    except FanoutError as error:
        return type(error).__name__
    return PlainSettings(
        found.access_key, found.secret_key, found.token, endpoint.region, endpoint.base_url, None
    )


def check(
    folder: Path,
    environment: Mapping[str, str],
    config: Mapping[str, Mapping[str, str]] | None,
    kept: Mapping[str, Mapping[str, str]] | None,
    options: dict[str, Any],
) -> bool:
    """Compare; False where botocore was to be asked."""
    written(folder / "config", config)
    written(folder / "credentials", kept)
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("AWS_CONFIG_FILE", str(folder / "config"))
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(folder / "credentials"))
        for name, value in environment.items():
            patch.setenv(name, value)
        plain = plain_settings(
            os.environ, region=options.get("region"), endpoint_url=options.get("endpoint_url")
        )
        if plain is None:
            return False
        patch.setattr("fanout.aws.session.plain_settings", lambda *_, **__: None)
        assert asyncio.run(by_botocore(options)) == plain
        return True


@settings(
    max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    environments,
    files,
    files,
    st.fixed_dictionaries(
        {}, optional={"region": st.sampled_from(REGIONS), "endpoint_url": st.sampled_from(URLS)}
    ),
)
@example({"AWS_ACCESS_KEY_ID": "K", "AWS_SECRET_ACCESS_KEY": "s", "AWS_REGION": "eu-west-3"}, None, None, {})
@example({"AWS_REGION": "eu-west-3"}, {"default": {"region": "us-east-1"}}, {"default": KEYS}, {})
@example({}, {"default": {**KEYS, "region": "us-east-1"}}, None, {})
@example({}, {"default": {"region": "us-east-1"}}, {"default": KEYS}, {"endpoint_url": URLS[2]})
@example({}, {"profile default": {"region": "us-east-1"}}, {"default": KEYS}, {"region": "us-east-1"})
@example({}, {"DEFAULT": {"region": "us-east-1"}, "default": {}}, {"default": KEYS}, {})
def test_what_is_found_is_what_botocore_finds(
    tmp_path: Path, environment: Any, config: Any, kept: Any, options: Any
) -> None:
    """Key, token, Region and endpoint; whatever is not plain is left to botocore."""
    event(f"plain: {check(tmp_path, environment, config, kept, options)}")


def test_the_plain_cases_are_plain(tmp_path: Path) -> None:
    """Lambda, a container, CI and a laptop with keys in its file: botocore is not asked."""
    key = {"AWS_ACCESS_KEY_ID": "K", "AWS_SECRET_ACCESS_KEY": "s", "AWS_SESSION_TOKEN": "t"}
    in_lambda = {"AWS_LAMBDA_FUNCTION_NAME": "f", "AWS_EXECUTION_ENV": "x", "AWS_XRAY_CONTEXT_MISSING": "x"}
    assert check(tmp_path, {**key, **in_lambda, "AWS_REGION": "eu-west-3"}, None, None, {})
    assert check(
        tmp_path, {**key, "AWS_DEFAULT_REGION": "eu-west-3"}, {"default": {"output": "text"}}, None, {}
    )
    laptop = {"default": {"region": "us-east-1"}, "profile other": {"role_arn": "x"}}
    assert check(tmp_path, {}, laptop, {"default": KEYS, "other": KEYS}, {})
    assert not check(tmp_path, {**key, "AWS_PROFILE": "p", "AWS_REGION": "eu-west-3"}, None, None, {})
    assert not check(tmp_path, {**key, "AWS_SOMETHING_NEW": "1", "AWS_REGION": "eu-west-3"}, None, None, {})


def test_the_plain_way_imports_neither_botocore_nor_aiohttp() -> None:
    """That is what it is for."""
    code = (
        "import asyncio, sys, fanout\n"
        "async def main():\n"
        "    async with fanout.Dispatcher('f', concurrency=1, rate=1, timeout=1):\n"
        "        print([name for name in ('botocore', 'aiohttp', 'aiobotocore') if name in sys.modules])\n"
        "asyncio.run(main())"
    )
    environment = {
        **{name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")},
        "AWS_ACCESS_KEY_ID": "K",
        "AWS_SECRET_ACCESS_KEY": "s",
        "AWS_REGION": "eu-west-3",
    }
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False
    )
    assert (told.stdout, told.stderr) == ("[]\n", "")
