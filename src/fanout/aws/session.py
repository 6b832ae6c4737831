"""One aiobotocore session behind a thin shell: what both transports and the control plane take from it.

What a user can get wrong becomes one line: ConfigError for settings, FatalRefusal for credentials.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from fanout.aws.credentials import KeptCredentials, StaticCredentials, check_sendable
from fanout.aws.environment import PlainSettings, plain_settings
from fanout.aws.faults import NO_CREDENTIALS, credentials_fault, settings_fault
from fanout.aws.service_models import model_files, read_lambda_models, read_service_models
from fanout.errors import ConfigError, FanoutError, FatalRefusal, RequestNotSent
from fanout.invoke_request import region_of

SERVICE_READ_TIMEOUT_S = 15.0  # of silence; so that a second try is within half a minute
LOCAL_KEYS = ("local", "local")  # of an endpoint on this machine, which checks none


class AwsSession:
    """An aiobotocore session and its control-plane ``client`` for Lambda, as an async context manager.

    A full ARN's Region wins over ``region``, which wins over the environment and the profile.
    ``verify`` is False, the path of a CA bundle, or None for AWS_CA_BUNDLE and the profile's
    ``ca_bundle``. ``static_credentials`` (key id, secret) take the place of the credential chain and of
    the environment's profile, for endpoints that check none: region and endpoint_url are then given. After
    entering: ``region``, ``endpoint_url`` (the one in use), ``verify`` (resolved). Raises ConfigError or
    FatalRefusal on entering.
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
        self._plain: PlainSettings | None = None
        self._opening = asyncio.Lock()
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

        from fanout.aws.http import PlainHttpSession

        await self._open_session()
        return await self._exit_stack.enter_async_context(
            self._session.create_client(
                "lambda",
                region_name=self._region_or_default(),
                endpoint_url=self._asked_endpoint_url,
                verify=self.verify,
                config=AioConfig(
                    connect_timeout=self.connect_timeout_s, http_session_cls=PlainHttpSession, **config
                ),
            )
        )

    @contextlib.asynccontextmanager
    async def other_client(self, service: str) -> AsyncIterator[Any]:
        """A client of another service, where its own settings say it is."""
        from aiobotocore.config import AioConfig

        from fanout.aws.http import PlainHttpSession

        await self._open_session()
        await asyncio.to_thread(
            self._session.get_component("data_loader").load_service_model, service, "service-2"
        )
        async with self._session.create_client(
            service,
            region_name=self.region,
            verify=self.verify,
            config=AioConfig(
                connect_timeout=self.connect_timeout_s, read_timeout=10, http_session_cls=PlainHttpSession
            ),
        ) as client:
            yield client

    async def service_client(self, service: str) -> Any:
        """A client of another service: its endpoint is its own, for ``endpoint_url`` is Lambda's alone.

        Raises ConfigError.
        """
        from aiobotocore.config import AioConfig
        from botocore.exceptions import BotoCoreError

        await self._open_session()
        try:
            loader = self._session.get_component("data_loader")
            await asyncio.to_thread(read_service_models, loader, service)
            return await self._exit_stack.enter_async_context(
                self._session.create_client(
                    service,
                    region_name=self._region_or_default(),
                    verify=self.verify,
                    config=AioConfig(
                        connect_timeout=self.connect_timeout_s,
                        read_timeout=SERVICE_READ_TIMEOUT_S,
                        retries={"mode": "standard", "total_max_attempts": 1},  # see ``s3_tries``
                    ),
                )
            )
        except (BotoCoreError, ValueError) as error:
            raise settings_fault(error, f"no client for {service}") from error

    async def endpoint_of(self, service: str, region: str | None = None) -> str:
        """The endpoint of another AWS service, by its own settings: ``endpoint_url`` is Lambda's alone.

        Raises ConfigError.
        """
        from botocore.exceptions import BotoCoreError

        await self._open_session()
        try:
            await asyncio.to_thread(
                self._session.get_component("data_loader").load_service_model, service, "service-2"
            )
            async with self._session.create_client(
                service, region_name=region or self._region_or_default(), verify=self.verify
            ) as client:
                url = str(client.meta.endpoint_url)
        except (BotoCoreError, ValueError) as error:
            raise settings_fault(error, f"no endpoint for {service}") from error
        _check_endpoint(url)
        return url

    async def frozen_credentials(self) -> Any:
        """Credentials good for a call now: ``access_key``, ``secret_key``, ``token``.

        Refreshes them first when they are about to expire, once for all who ask at the same time.
        Raises FatalRefusal when they cannot come back without a person, RequestNotSent otherwise.
        """
        return await self._credentials.get_frozen_credentials()

    async def reread_credentials(self) -> None:
        """Look for credentials again where they came from: a file may have been renewed meanwhile.

        Those in use stay where nothing is found. Raises nothing.
        """
        if self._static_credentials is not None or "AWS_ACCESS_KEY_ID" in os.environ:
            return
        from aiobotocore.session import AioSession

        with contextlib.suppress(Exception):
            found = await AioSession(profile=self._profile).get_credentials()
            if found is not None:
                check_sendable(await found.get_frozen_credentials())
                await self._credentials.aclose()
                self._credentials.replace(found)

    def _keep_credentials(self) -> None:
        self._credentials = KeptCredentials(self._credentials)
        self._exit_stack.push_async_callback(self._credentials.aclose)
        if self._session is not None:
            self._session._credentials = self._credentials  # noqa: SLF001 - clients sign with the same ones

    async def _open(self) -> None:
        if self._profile is None and self._static_credentials is None:
            self._plain = plain_settings(
                os.environ, region=self._asked_region, endpoint_url=self._asked_endpoint_url
            )
        elif self._static_credentials and (self._asked_endpoint_url or "").startswith("http://"):
            # Whatever the environment says; over TLS it, or a profile, names the authorities to trust.
            keys = dict(
                zip(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), self._static_credentials, strict=True)
            )
            self._plain = plain_settings(
                keys, region=self._asked_region, endpoint_url=self._asked_endpoint_url
            )
        if (plain := self._plain) is not None:
            self.verify = _checked_bundle(
                self._asked_verify if self._asked_verify is not None else plain.ca_bundle or True
            )
            self.region, self.endpoint_url = plain.region, plain.base_url
            self._credentials = StaticCredentials(plain.access_key, plain.secret_key, plain.token)
            self._keep_credentials()
            check_sendable(await self._credentials.get_frozen_credentials())
            return
        from botocore.exceptions import BotoCoreError

        await self._open_session()
        try:
            self.client = await self.create_client()
        except (BotoCoreError, ValueError) as error:
            raise error if isinstance(error, FanoutError) else settings_fault(error) from error
        self.region = self.client.meta.region_name
        self.endpoint_url = self.client.meta.endpoint_url
        _check_endpoint(self.endpoint_url)

    @property
    def plain_base_url(self) -> str | None:
        """Lambda's address, where the environment alone gives it; None where botocore's rules are needed."""
        return None if self._plain is None else self._plain.base_url

    async def _open_session(self) -> None:
        async with self._opening:
            if self._session is None:
                await self._make_session()

    async def _make_session(self) -> None:
        from aiobotocore.session import AioSession
        from botocore.exceptions import BotoCoreError

        # Without a handler Python prints aiobotocore's warnings (a refresh that failed) with a traceback.
        logging.getLogger("aiobotocore").addHandler(logging.NullHandler())
        try:
            alone = {"profile": (None, None, None, None)}  # not that of the environment
            session = AioSession(
                profile=self._profile, session_vars=alone if self._static_credentials else None
            )
            session.get_component("data_loader").file_loader = model_files()
            # Files of some size; read in a thread they hold up nobody.
            await asyncio.to_thread(read_lambda_models, session)
            self._session = session
            if self._credentials is not None:  # found in the environment
                session._credentials = self._credentials  # noqa: SLF001 - clients sign with the same ones
                return
            self.verify = self._resolve_verify()
            await self._find_credentials()
        except (BotoCoreError, ValueError) as error:
            self._session = None
            if isinstance(error, FanoutError):
                raise
            raise settings_fault(error) from error

    def _region_or_default(self) -> str | None:
        # AWS_REGION is what Lambda and the other SDKs set; botocore reads AWS_DEFAULT_REGION only.
        if self._asked_region or os.environ.get("AWS_DEFAULT_REGION"):
            return self._asked_region
        return os.environ.get("AWS_REGION") or None

    def _resolve_verify(self) -> bool | str:
        verify = self._asked_verify
        if verify is None:
            verify = self._session.get_config_variable("ca_bundle") or True
        return _checked_bundle(verify)

    async def _find_credentials(self) -> None:
        if self._static_credentials is not None:
            self._session.set_credentials(*self._static_credentials)
        try:
            self._credentials = await self._session.get_credentials()
            if self._credentials is not None:
                self._keep_credentials()
                # Some providers (SSO, assumed roles) fail only when asked: better before the first call.
                check_sendable(await self._credentials.get_frozen_credentials())
        except Exception as error:
            fault = settings_fault(error, None) or credentials_fault(error)
            if fault is error and not isinstance(error, RequestNotSent):
                raise
            if isinstance(fault, RequestNotSent):  # nothing was ever valid: no call can be made
                fault = FatalRefusal(str(fault), code=type(error).__name__)
            raise fault from error
        if self._credentials is None:
            raise FatalRefusal(NO_CREDENTIALS, code="NoCredentials")


def _checked_bundle(verify: bool | str) -> bool | str:
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


def _check_endpoint(url: str) -> None:
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, half an IPv6 address
        is_address = False
    if not is_address:
        raise ConfigError(f"endpoint_url is {url!r}: give http://HOST:PORT or https://…")
    if parts.username is not None or parts.query or parts.fragment:
        raise ConfigError("endpoint_url has a user, a query or a fragment: give it without them")
