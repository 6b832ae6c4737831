"""The reading of limits: Lambda's APIs, all at once, at the start and again every minute."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Protocol
from urllib.parse import quote

from fanout.config import Concurrency
from fanout.function_name import split_qualifier
from fanout.model import InvocationType
from fanout.quotas.concurrency_file import REREAD_S, ConcurrencyFile
from fanout.quotas.decide import Quotas, decide
from fanout.quotas.recent_answers import ScopedAnswers
from fanout.quotas.replies import Answer, Replies

_CREDENTIAL_CODES = frozenset(
    {
        "ExpiredTokenException",
        "ExpiredToken",
        "IncompleteSignatureException",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "MissingAuthenticationTokenException",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
_NOT_FOUND = "ResourceNotFoundException"
_NO_CONNECTION = "ConnectFailed"
_UNKNOWN_HOST = "UnknownHost"


class ControlApi(Protocol):
    """Lambda's limit-reading API: GETs that bring an object, or raise.

    An exception's ``code`` is Lambda's error code, where it has one.
    """

    async def get(self, path: str, query: Mapping[str, str] | None = None) -> Mapping[str, Any]: ...


async def discover(
    control: ControlApi,
    *,
    function: str,
    qualifier: str | None = None,
    concurrency: Concurrency,
    invocation_type: InvocationType = "RequestResponse",
    function_timeout_s: float | None = None,
    timeout_s: float = 3.0,
    recent: ScopedAnswers | None = None,
) -> Quotas:
    """Ask all APIs at once and decide; takes one round trip, and never more than ``timeout_s``.

    An API that is denied, missing, slow or answers garbage leads to a stated assumption. Replies that
    ``recent`` has of less than a minute ago are taken again. Raises ConfigError only, for a ``@FILE``
    without a number.
    """
    asked, asked_by = _resolve(concurrency, _file_of(concurrency))
    replies = await _read(control, function, qualifier, timeout_s, recent)
    return decide(
        replies,
        asked,
        invocation_type=invocation_type,
        asked_by=asked_by,
        function_timeout_s=function_timeout_s,
    )


async def watch(
    control: ControlApi,
    quotas: Quotas,
    *,
    function: str,
    qualifier: str | None = None,
    concurrency: Callable[[], Concurrency],
    invocation_type: InvocationType = "RequestResponse",
    on_change: Callable[[Quotas], None],
    function_timeout_s: float | None = None,
    every_s: float = 60.0,
    timeout_s: float = 10.0,
    recent: ScopedAnswers | None = None,
) -> None:
    """Ask again every ``every_s``, and read a ``@FILE`` every second, until cancelled.

    ``concurrency`` says what is asked for, each time anew.
    Calls ``on_change`` when a figure differs. An API that fails now keeps its last good reply.
    """
    clock = asyncio.get_running_loop().time
    wanted = concurrency()
    file = _file_of(wanted)
    asked_at_s = clock()
    replies = quotas.replies
    assert replies is not None
    while True:
        await asyncio.sleep(REREAD_S if file is not None else every_s)
        if clock() - asked_at_s >= every_s:
            asked_at_s = clock()
            replies = _newer(replies, await _read(control, function, qualifier, timeout_s, recent))
        if concurrency() != wanted:
            wanted = concurrency()
            file = _file_of(wanted)
        asked, asked_by = _resolve(wanted, file)
        fresh = decide(
            replies,
            asked,
            invocation_type=invocation_type,
            asked_by=asked_by,
            function_timeout_s=function_timeout_s,
        )
        if fresh != quotas:
            quotas = fresh
            on_change(fresh)


def _file_of(concurrency: Concurrency) -> ConcurrencyFile | None:
    return None if concurrency.file is None else ConcurrencyFile(concurrency.file)


def _resolve(concurrency: Concurrency, file: ConcurrencyFile | None) -> tuple[Concurrency, str]:
    if file is None:
        return concurrency, "option --concurrency"
    return file.read(asyncio.get_running_loop().time()), f"file {file.path}:"


def _newer(old: Replies, new: Replies) -> Replies:
    """The new replies, but for those that failed where there is an old one."""
    return Replies(
        old.function if isinstance(new.function, str) else new.function,
        old.account if isinstance(new.account, str) else new.account,
        old.provisioned if isinstance(new.provisioned, str) else new.provisioned,
        new.function_missing,
        new.refusal,
        scaling=old.scaling if new.scaling is None or isinstance(new.scaling, str) else new.scaling,
    )


async def _read(
    control: ControlApi, function: str, qualifier: str | None, timeout_s: float, recent: ScopedAnswers | None
) -> Replies:
    async def ask() -> Replies:
        return await _ask(control, function, qualifier, timeout_s)

    return await (ask() if recent is None else recent.recall((function, qualifier), ask))


async def read_event_config(
    control: ControlApi, function: str, qualifier: str | None = None, timeout_s: float = 3.0
) -> Answer:
    """The settings of Event calls: retries, greatest age, destinations. ``{}`` where nothing is set."""
    answer, code = await _get(
        control,
        "GetFunctionEventInvokeConfig",
        "/2019-09-25",
        "event-invoke-config",
        function,
        qualifier,
        timeout_s,
    )
    return {} if code == _NOT_FOUND else answer


async def _ask(control: ControlApi, function: str, qualifier: str | None, timeout_s: float) -> Replies:
    """Each API once, at the same time; what only managed functions have, after GetFunction said so."""
    _, qualifier = split_qualifier(function, qualifier)
    has_provisioned = qualifier is not None and not qualifier.startswith("$LATEST")

    async def ask_function() -> tuple[Answer, str, Answer | None]:
        answer, code = await _get(control, "GetFunction", "/2015-03-31", "", function, qualifier, timeout_s)
        configuration = answer.get("Configuration") if isinstance(answer, Mapping) else None
        if not isinstance(configuration, Mapping) or not configuration.get("CapacityProviderConfig"):
            return answer, code, None
        scaling, _ = await _get(
            control,
            "GetFunctionScalingConfig",
            "/2025-11-30",
            "function-scaling-config",
            function,
            qualifier or "$LATEST.PUBLISHED",
            timeout_s,
        )
        return answer, code, scaling

    async def ask_provisioned() -> tuple[Answer | None, str]:
        if not has_provisioned:
            return None, ""
        answer, code = await _get(
            control,
            "GetProvisionedConcurrencyConfig",
            "/2019-09-30",
            "provisioned-concurrency",
            function,
            qualifier,
            timeout_s,
        )
        return ({}, "") if code == "ProvisionedConcurrencyConfigNotFoundException" else (answer, code)

    (
        (found, found_code, scaling),
        (account, account_code),
        (provisioned, provisioned_code),
    ) = await asyncio.gather(
        ask_function(),
        _answer(control.get("/2016-08-19/account-settings"), "GetAccountSettings", timeout_s),
        ask_provisioned(),
    )
    codes = [code for code in (found_code, account_code, provisioned_code) if code]
    refused = next((code for code in codes if code in _CREDENTIAL_CODES), None)
    is_unreachable = (
        isinstance(found, str) and isinstance(account, str) and set(codes) <= {_NO_CONNECTION, _UNKNOWN_HOST}
    )
    return Replies(
        found,
        account,
        provisioned,
        function_missing=found_code == _NOT_FOUND,
        refusal=None if refused is None else f"credentials were refused: {refused}",
        scaling=scaling,
        unreachable=str(found) if is_unreachable else None,
        is_host_unknown=set(codes) == {_UNKNOWN_HOST},
    )


async def _get(
    control: ControlApi,
    operation: str,
    version: str,
    resource: str,
    function: str,
    qualifier: str | None,
    timeout_s: float,
) -> tuple[Answer, str]:
    name, qualifier = split_qualifier(function, qualifier)
    path = f"{version}/functions/{quote(name, safe='-._~')}" + (f"/{resource}" if resource else "")
    query = {"Qualifier": qualifier} if qualifier else {}
    return await _answer(control.get(path, query), operation, timeout_s)


async def _answer(
    request: Coroutine[Any, Any, Mapping[str, Any]], operation: str, timeout_s: float
) -> tuple[Answer, str]:
    """The reply, or why there is none; and the error's code."""
    try:
        reply = await asyncio.wait_for(request, timeout_s)
    except TimeoutError:
        return f"no answer to {operation} within {timeout_s:g} s", "Timeout"
    except Exception as error:  # noqa: BLE001 - whatever an optional API does, the run goes on
        code = str(getattr(error, "code", "") or type(error).__name__)
        if code == _NO_CONNECTION:
            return str(error), _UNKNOWN_HOST if getattr(error, "is_host_unknown", False) else code
        return f"{code.removesuffix('Exception')} for {operation}", code
    return reply, ""
