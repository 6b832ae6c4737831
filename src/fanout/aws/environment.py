"""Settings that the environment alone decides: credentials, Region and endpoint, without botocore.

botocore's session costs a tenth of a second, and in Lambda, CI and containers it finds what the
environment says. So the plain cases are read here, exactly as botocore would, and everything else is
left to it: whatever this module does not know by name makes it say None.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

import msgspec

_READ = frozenset(
    {
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_DEFAULT_REGION",
        "AWS_REGION",
        "AWS_ENDPOINT_URL",
        "AWS_ENDPOINT_URL_LAMBDA",
        "AWS_CA_BUNDLE",
        "AWS_CONFIG_FILE",
        "AWS_SHARED_CREDENTIALS_FILE",
    }
)
_IRRELEVANT = frozenset(
    {
        "AWS_DEFAULT_OUTPUT",
        "AWS_EC2_METADATA_DISABLED",
        "AWS_ENDPOINT_URL_CLOUDWATCH",
        "AWS_ENDPOINT_URL_S3",
        "AWS_ENDPOINT_URL_SQS",
        "AWS_ENDPOINT_URL_STS",
        "AWS_EXECUTION_ENV",
        "AWS_MAX_ATTEMPTS",
        "AWS_PAGER",
        "AWS_RETRY_MODE",
        "AWS_STS_REGIONAL_ENDPOINTS",
    }
)
_IRRELEVANT_BEGINNINGS = ("AWS_CLI_", "AWS_LAMBDA_", "AWS_XRAY_")
# Sources that come after keys in the environment: without such keys they are botocore's affair.
_AFTER_KEYS = frozenset(
    {
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_ROLE_ARN",
        "AWS_ROLE_SESSION_NAME",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
    }
)
_KEYS = frozenset({"aws_access_key_id", "aws_secret_access_key", "aws_session_token"})
_SETTINGS = _KEYS | {"region", "output"}
_REGION = re.compile(r"(us|eu|ap|sa|ca|me|af|il|mx)-[a-z]+-\d", re.ASCII)  # of the partition "aws"
_URL = re.compile(r"https?://[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[1-9][0-9]{0,4})?((/[a-zA-Z0-9_-]+)*)", re.ASCII)


class PlainSettings(msgspec.Struct, frozen=True):
    """Settings from the environment alone: a key, a Region, and Lambda's address."""

    access_key: str
    secret_key: str
    token: str | None
    region: str
    base_url: str
    ca_bundle: str | None


def plain_settings(
    environment: Mapping[str, str], *, region: str | None, endpoint_url: str | None
) -> PlainSettings | None:
    """The settings, where they are plain; None where botocore must be asked. Reads two small files.

    ``region`` and ``endpoint_url`` are the user's and win.
    """
    names = {name for name in environment if name.upper().startswith(("AWS_", "BOTO"))}
    named = names - _IRRELEVANT - _AFTER_KEYS
    if any(name not in _READ and not name.startswith(_IRRELEVANT_BEGINNINGS) for name in named):
        return None
    if any(not environment[name] for name in names & _READ):
        return None  # set, and empty: botocore has its own mind about each
    home = Path("~").expanduser()
    if (home / ".aws" / "models").exists():
        return None
    config = _default_section(environment.get("AWS_CONFIG_FILE") or str(home / ".aws" / "config"), _SETTINGS)
    kept = _default_section(
        environment.get("AWS_SHARED_CREDENTIALS_FILE") or str(home / ".aws" / "credentials"), _KEYS
    )
    if config is None or kept is None:
        return None
    keys = _keys(environment, names, kept, config)
    region = region or environment.get("AWS_DEFAULT_REGION") or environment.get("AWS_REGION")
    region = region or config.get("region")
    if keys is None or region is None or not _REGION.fullmatch(region):
        return None
    url = endpoint_url or environment.get("AWS_ENDPOINT_URL_LAMBDA") or environment.get("AWS_ENDPOINT_URL")
    url = url or f"https://lambda.{region}.amazonaws.com"
    match = _URL.fullmatch(url)
    if match is None or ".." in url or int((match[2] or ":0")[1:]) > 65_535:
        return None
    return PlainSettings(*keys, region, url, environment.get("AWS_CA_BUNDLE"))


def _keys(
    environment: Mapping[str, str], names: set[str], kept: Mapping[str, str], config: Mapping[str, str]
) -> tuple[str, str, str | None] | None:
    if "AWS_ACCESS_KEY_ID" in names:
        secret = environment.get("AWS_SECRET_ACCESS_KEY")
        if secret is None:
            return None
        return environment["AWS_ACCESS_KEY_ID"], secret, environment.get("AWS_SESSION_TOKEN")
    if names & _AFTER_KEYS:
        return None
    found = kept if "aws_access_key_id" in kept else config
    if "aws_access_key_id" not in found or "aws_secret_access_key" not in found:
        return None
    return found["aws_access_key_id"], found["aws_secret_access_key"], found.get("aws_session_token")


def _default_section(path: str, known: frozenset[str]) -> Mapping[str, str] | None:
    """The default profile of a file; empty where there is none, None where it holds more than is known."""
    path = os.path.expanduser(os.path.expandvars(path))  # noqa: PTH111 - as botocore does it
    if not Path(path).is_file():
        return {}
    import configparser  # 2 ms, which an environment without such files does without

    parser = configparser.RawConfigParser(default_section="")
    try:
        parser.read(path)
    except (configparser.Error, UnicodeDecodeError, OSError):
        return None
    sections = [name for name in parser.sections() if _is_default(name)]
    if "DEFAULT" in parser.sections():  # botocore lets every other section inherit from it
        return None
    if not sections:
        return {}
    if sections != ["default"]:
        return None
    found = dict(parser.items("default"))
    if not found.keys() <= known or any(not value or "\n" in value for value in found.values()):
        return None
    return found


def _is_default(section: str) -> bool:
    return section.strip().removeprefix("profile").strip().strip("\"'") == "default"
