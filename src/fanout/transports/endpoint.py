"""The destination of an invocation, as botocore has it: endpoint, signing scope and proxy."""

from __future__ import annotations

import os
import re
import sys
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from fanout.aws import AwsSession
from fanout.errors import ConfigError


class Endpoint(NamedTuple):
    """A base URL without a slash at its end, and the Region and service that calls to it are signed for."""

    base_url: str
    region: str
    service: str


class _Captured(Exception):
    def __init__(self, request: Any) -> None:
        super().__init__()
        self.request = request


async def resolve_endpoint(session: AwsSession) -> Endpoint:
    """The endpoint that botocore would use for an invocation, taken from a request that is not sent."""
    if (base_url := session.plain_base_url) is not None:
        return Endpoint(base_url, session.region, "lambda")
    from botocore.exceptions import BotoCoreError

    def capture(request: Any, **_: Any) -> None:
        raise _Captured(request)

    events = session.client.meta.events
    event, name = "before-send.lambda.Invoke", "fanout-capture"
    events.register_first(event, capture, unique_id=name)
    try:
        await session.client.invoke(FunctionName="f")
    except _Captured as captured:
        request = captured.request
    except BotoCoreError as error:
        raise ConfigError(f"no endpoint for Lambda: {' '.join(str(error).split())}") from error
    finally:
        events.unregister(event, capture, unique_id=name)
    authorization = request.headers["Authorization"]
    if isinstance(authorization, bytes):
        authorization = authorization.decode()
    scope = re.search(r"/\d{8}/([^/]+)/([^/]+)/aws4_request", authorization)
    if scope is None:
        raise ConfigError("this endpoint does not take Signature Version 4: use --transport sdk")
    base_url = request.url.removesuffix("/2015-03-31/functions/f/invocations")
    return Endpoint(base_url, scope[1], scope[2])


def proxy_for(base_url: str) -> str | None:
    """The proxy that botocore would use, from HTTP(S)_PROXY and NO_PROXY in either case."""
    if sys.platform == "linux" and not any(name.lower().endswith("_proxy") for name in os.environ):
        return None
    from botocore.utils import get_environ_proxies

    proxy: str | None = get_environ_proxies(base_url).get(urlsplit(base_url).scheme)
    if not proxy:
        return None
    scheme = re.match(r"([a-z][a-z0-9+.-]*)://", proxy, re.IGNORECASE)
    if scheme is not None and scheme[1].lower() not in ("http", "https"):
        raise ConfigError(
            f"the proxy {without_password(proxy)!r} is of a kind that is not supported "
            f"({scheme[1]}): HTTPS_PROXY and HTTP_PROXY take http://… and https://…"
        )
    if proxy.startswith("//"):
        proxy = f"http:{proxy}"
    elif not proxy.startswith(("http:", "https:")):
        proxy = f"http://{proxy}"
    try:
        parts = urlsplit(proxy)
        is_url = bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, half an IPv6 address
        is_url = False
    if not is_url:
        raise ConfigError(
            f"the proxy {without_password(proxy)!r} is not a URL: check HTTPS_PROXY and HTTP_PROXY"
        )
    return proxy


def without_password(proxy: str) -> str:
    """A proxy's URL as messages may show it."""
    return re.sub(r"//[^/]*@", "//", proxy)
