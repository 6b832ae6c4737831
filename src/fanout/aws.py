"""Who calls, and where: profile, Region, endpoint and credentials, found as every AWS tool finds them.

A thin shell around one aiobotocore session. Both transports and the control plane (quotas, listing
functions) take what they need from it. What a user can get wrong becomes one line: ConfigError for
settings, FatalRefusal for credentials.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import logging
import os
import re
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import msgspec

from fanout.errors import ConfigError, FanoutError, FatalRefusal, RequestNotSent
from fanout.invoke_request import region_of

CONTROL_READ_TIMEOUT_S = 5.0
_CONTROL_ATTEMPTS = 3
_VISIBLE = re.compile(r"[!-~]+")  # of ASCII
_NO_CREDENTIALS = (
    "no AWS credentials found: give --profile, set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
    "or sign in (aws configure, aws sso login)"
)


class AwsSession:
    """An aiobotocore session and its control-plane ``client`` for Lambda, as an async context manager.

    A full ARN's Region wins over ``region``, which wins over the environment and the profile.
    ``verify`` is False, the path of a CA bundle, or None for AWS_CA_BUNDLE and the profile's
    ``ca_bundle``. ``static_credentials`` (key id, secret) take the place of the credential chain,
    for endpoints that check none. After entering: ``client``, ``region``, ``endpoint_url`` (the one
    in use), ``verify`` (resolved). Raises ConfigError or FatalRefusal on entering.
    """

    client: Any
    region: str
    endpoint_url: str
    verify: bool | str

    def __init__(
        self,
        *,
        function: str,
        profile: str | None = None,
        region: str | None = None,
        endpoint_url: str | None = None,
        verify: bool | str | None = None,
        connect_timeout_s: float = 5.0,
        static_credentials: tuple[str, str] | None = None,
    ) -> None:
        self.connect_timeout_s = connect_timeout_s
        self._profile = profile
        self._asked_region = region_of(function) or region
        self._asked_endpoint_url = endpoint_url
        self._asked_verify = verify
        self._static_credentials = static_credentials
        self._session: Any = None
        self._credentials: Any = None
        self._exit_stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        try:
            await self._open()
        except BaseException:
            await self._exit_stack.aclose()
            raise
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._exit_stack.aclose()

    async def create_client(self, **config: Any) -> Any:
        """A Lambda client of this session with an ``AioConfig`` of its own; closed with the session."""
        from aiobotocore.config import AioConfig

        return await self._exit_stack.enter_async_context(
            self._session.create_client(
                "lambda",
                region_name=self._region_or_default(),
                endpoint_url=self._asked_endpoint_url,
                verify=self.verify,
                config=AioConfig(connect_timeout=self.connect_timeout_s, **config),
            )
        )

    async def endpoint_of(self, service: str, region: str | None = None) -> str:
        """Where another service of AWS is: by its own settings, for ``endpoint_url`` is Lambda's alone.

        Raises ConfigError.
        """
        from botocore.exceptions import BotoCoreError

        try:
            await asyncio.to_thread(
                self._session.get_component("data_loader").load_service_model, service, "service-2"
            )
            async with self._session.create_client(
                service, region_name=region or self._region_or_default(), verify=self.verify
            ) as client:
                url = str(client.meta.endpoint_url)
        except (BotoCoreError, ValueError) as error:
            raise _settings_fault(error, f"no endpoint for {service}") from error
        _check_endpoint(url)
        return url

    async def frozen_credentials(self) -> Any:
        """Credentials good for a call now: ``access_key``, ``secret_key``, ``token``.

        Refreshes them first when they are about to expire, once for all who ask at the same time.
        Raises FatalRefusal when they cannot come back without a person, RequestNotSent otherwise.
        """
        try:
            frozen = await self._credentials.get_frozen_credentials()
        except Exception as error:
            raise credentials_fault(error) from error
        _check_sendable(frozen)
        return frozen

    async def _open(self) -> None:
        from aiobotocore.session import AioSession
        from botocore.exceptions import BotoCoreError

        # Without a handler Python prints aiobotocore's warnings (a refresh that failed) with a traceback.
        logging.getLogger("aiobotocore").addHandler(logging.NullHandler())
        try:
            self._session = AioSession(profile=self._profile)
            self._session.get_component("data_loader").file_loader = _model_files()
            # Files of some size; read in a thread they hold up nobody.
            await asyncio.to_thread(_read_models, self._session)
            self.verify = self._resolve_verify()
            await self._find_credentials()
            self.client = await self.create_client(
                read_timeout=CONTROL_READ_TIMEOUT_S,
                retries={"mode": "standard", "total_max_attempts": _CONTROL_ATTEMPTS},
            )
        except (BotoCoreError, ValueError) as error:
            if isinstance(error, FanoutError):
                raise
            raise _settings_fault(error) from error
        self.region = self.client.meta.region_name
        self.endpoint_url = self.client.meta.endpoint_url
        _check_endpoint(self.endpoint_url)

    def _region_or_default(self) -> str | None:
        # AWS_REGION is what Lambda and the other SDKs set; botocore reads AWS_DEFAULT_REGION only.
        if self._asked_region or os.environ.get("AWS_DEFAULT_REGION"):
            return self._asked_region
        return os.environ.get("AWS_REGION") or None

    def _resolve_verify(self) -> bool | str:
        verify = self._asked_verify
        if verify is None:
            verify = self._session.get_config_variable("ca_bundle") or True
        if isinstance(verify, str):
            try:
                with Path(verify).open("rb"):
                    pass
            except OSError as error:
                raise ConfigError(
                    f"CA bundle {verify!r} cannot be read ({error.strerror}): "
                    "check AWS_CA_BUNDLE or the profile's ca_bundle"
                ) from error
        return verify

    async def _find_credentials(self) -> None:
        if self._static_credentials is not None:
            self._session.set_credentials(*self._static_credentials)
        try:
            self._credentials = await self._session.get_credentials()
            # Some providers (SSO, assumed roles) fail only when first asked: better before the first call.
            if self._credentials is not None:
                _check_sendable(await self._credentials.get_frozen_credentials())
        except FatalRefusal:
            raise
        except Exception as error:
            fault = _settings_fault(error, None) or credentials_fault(error)
            if isinstance(fault, RequestNotSent):  # nothing was ever valid: no call can be made
                fault = FatalRefusal(str(fault), code=type(error).__name__)
            raise fault from error
        if self._credentials is None:
            raise FatalRefusal(_NO_CREDENTIALS, code="NoCredentials")


def _model_files() -> Any:
    """What reads botocore's data files, a third of the usual time: 40 ms of a command's start."""
    from botocore.loaders import JSONFileLoader

    class ModelFiles(JSONFileLoader):  # type: ignore[misc]
        def load_file(self, file_path: str) -> Any:
            for suffix, read in ((".json", Path.read_bytes), (".json.gz", _read_gzip)):
                try:
                    return msgspec.json.decode(read(Path(f"{file_path}{suffix}")))
                except (FileNotFoundError, NotADirectoryError):
                    continue
                except msgspec.DecodeError as error:
                    raise ValueError(f"{file_path}{suffix} is no JSON: {error}") from error
            return None

    return ModelFiles()


def _read_gzip(path: Path) -> bytes:
    with gzip.open(path) as file:
        return file.read()


def _read_models(session: Any) -> None:
    # What a client is made of, and no more: aiobotocore's own warm-up reads half as much again.
    loader = session.get_component("data_loader")
    for name in ("_retry", "endpoints", "partitions", "sdk-default-configuration"):
        loader.load_data_with_path(name)
    for kind in ("service-2", "endpoint-rule-set-1"):
        loader.load_service_model("lambda", kind)


def credentials_fault(error: Exception) -> FanoutError:
    """What a failure of the credential chain means: can waiting help, or only a person?"""
    from botocore import exceptions as boto

    if isinstance(error, boto.NoCredentialsError):
        return FatalRefusal(_NO_CREDENTIALS, code="NoCredentials")
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, (boto.SSOError, boto.TokenRetrievalError, boto.LoginError)):
        return FatalRefusal(f"the AWS sign-in is no longer valid: {text}", code=type(error).__name__)
    if isinstance(error, (boto.PartialCredentialsError, boto.InvalidConfigError)):
        return FatalRefusal(f"the AWS credentials are incomplete: {text}", code=type(error).__name__)
    return RequestNotSent(f"the AWS credentials cannot be fetched: {text}")


def _check_sendable(frozen: Any) -> None:
    """Both go into headers, where a line feed at the end of a pasted token would begin another header."""
    for name, value in (("access key id", frozen.access_key), ("session token", frozen.token or "x")):
        if not _VISIBLE.fullmatch(value):
            raise FatalRefusal(
                f"the AWS {name} holds a space, a line feed or another character that cannot be in one: "
                "set it again, as it was issued",
                code="InvalidCredentials",
            )


def _check_endpoint(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"endpoint_url is {url!r}: give http://… or https://…")
    if parts.username is not None or parts.query or parts.fragment:
        raise ConfigError("endpoint_url has a user, a query or a fragment: give it without them")


def _settings_fault(error: Exception, otherwise: str | None = "the AWS settings do not work") -> Any:
    """The ConfigError for what botocore says of settings; None if it is not about settings."""
    from botocore import exceptions as boto

    text = " ".join(str(error).split())
    if isinstance(error, boto.ProfileNotFound):
        return ConfigError(f"{text}: see `aws configure list-profiles`")
    if isinstance(error, boto.NoRegionError):
        return ConfigError("no Region: give --region, a full ARN, or set AWS_REGION or the profile's region")
    if isinstance(error, boto.InvalidRegionError):
        return ConfigError(f"region is invalid: {text}")
    if isinstance(error, (boto.ConfigParseError, boto.ConfigNotFound)):
        return ConfigError(f"the AWS configuration cannot be read: {text}")
    if isinstance(error, ValueError) and "endpoint" in text.lower():
        return ConfigError(f"endpoint_url is invalid: {text}; give http://… or https://…")
    return None if otherwise is None else ConfigError(f"{otherwise}: {text}")
