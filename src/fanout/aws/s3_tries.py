"""Tries: a request to S3, made again while patience lasts and its failure may pass."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from fanout.aws import session
from fanout.patience import UNREACHED_S, Patience, asked_wait_s

T = TypeVar("T")


async def tried(
    ask: Callable[[], Awaitable[T]],
    *,
    explain: Callable[[Exception], tuple[str, bool]],
    failure: Callable[[str], Exception],
    on_wait: Callable[[str, float], None] | None = None,
    is_reached: bool = False,
) -> T:
    """What ``ask`` returns in the end. Raises the ``failure`` of the reason.

    ``explain`` puts an error in words, and says whether it may pass. ``on_wait`` gets the words and the
    seconds before each further try, but not while nothing has answered at the address. ``is_reached``:
    something has, before this request.
    """
    patience = Patience()
    while True:
        try:
            return await ask()
        except Exception as error:
            reason, is_passing = explain(error)
            wait_s = None
            if is_passing:
                is_reached = is_reached or not _is_unreached(error)
                wait_s = patience.wait_s(
                    time.monotonic(),
                    silent_s=session.SERVICE_READ_TIMEOUT_S if _is_silence(error) else 0.0,
                    asked_s=asked_wait_of(error),
                    patience_s=None if is_reached else UNREACHED_S,
                )
            if wait_s is None:
                raise failure(reason) from error
        if on_wait is not None and is_reached:
            on_wait(reason, wait_s)
        await asyncio.sleep(wait_s)


def asked_wait_of(error: Exception) -> float:
    """The wait in an answer of S3, as botocore raises it; 0 where there is none."""
    reply = getattr(error, "response", None)
    metadata = reply.get("ResponseMetadata", {}) if isinstance(reply, dict) else {}
    return asked_wait_s(metadata.get("HTTPHeaders", {}).get("retry-after")) or 0.0


def _is_silence(error: Exception) -> bool:
    from botocore.exceptions import ReadTimeoutError

    return isinstance(error, (TimeoutError, ReadTimeoutError))


def _is_unreached(error: Exception) -> bool:
    from botocore.exceptions import ConnectionError as NoConnection

    return isinstance(error, NoConnection)
