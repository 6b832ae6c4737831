"""How the limits are read: three APIs at once, at the start and again every minute."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any

from fanout.config import Concurrency
from fanout.model import InvocationType
from fanout.quotas.concurrency_file import REREAD_S, ConcurrencyFile
from fanout.quotas.decide import Answer, Quotas, Replies, decide

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
# FunctionName of the Lambda API: name, partial ARN or ARN, each with or without a qualifier.
_FUNCTION_NAME = re.compile(
    r"((?:arn:aws[a-z-]*:lambda:)?(?:[a-z]{2}(?:-gov)?-[a-z]+-\d:)?(?:\d{12}:)?(?:function:)?[\w.-]+)"
    r"(?::(\$LATEST|[\w-]+))?"
)
_CREDENTIAL_FAULTS = frozenset(
    {"NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "TokenRetrievalError"}
)


async def discover(
    client: Any,
    *,
    function: str,
    qualifier: str | None = None,
    concurrency: Concurrency,
    invocation_type: InvocationType = "RequestResponse",
    timeout_s: float = 3.0,
) -> Quotas:
    """Ask all APIs at once and decide; takes one round trip, and never more than ``timeout_s``.

    ``client``: an aiobotocore client for Lambda. An API that is denied, missing, slow or answers
    garbage leads to a stated assumption. Raises ConfigError only, for a ``@FILE`` without a number.
    """
    asked, asked_by = _resolve(concurrency, _file_of(concurrency))
    replies = await _ask(client, function, qualifier, timeout_s)
    return decide(replies, asked, invocation_type=invocation_type, asked_by=asked_by)


async def watch(
    client: Any,
    quotas: Quotas,
    *,
    function: str,
    qualifier: str | None = None,
    concurrency: Concurrency,
    invocation_type: InvocationType = "RequestResponse",
    on_change: Callable[[Quotas], None],
    every_s: float = 60.0,
    timeout_s: float = 10.0,
) -> None:
    """Ask again every ``every_s``, and read a ``@FILE`` every second, until cancelled.

    Calls ``on_change`` when a figure differs. An API that fails now keeps its last good reply.
    """
    clock = asyncio.get_running_loop().time
    file = _file_of(concurrency)
    asked_at_s = clock()
    replies = quotas.replies
    assert replies is not None
    while True:
        await asyncio.sleep(REREAD_S if file is not None else every_s)
        if clock() - asked_at_s >= every_s:
            asked_at_s = clock()
            replies = _newer(replies, await _ask(client, function, qualifier, timeout_s))
        asked, asked_by = _resolve(concurrency, file)
        fresh = decide(replies, asked, invocation_type=invocation_type, asked_by=asked_by)
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
    )


async def _ask(client: Any, function: str, qualifier: str | None, timeout_s: float) -> Replies:
    name, qualifier = _split(function, qualifier)
    named = {"FunctionName": name} | ({"Qualifier": qualifier} if qualifier else {})
    has_provisioned = qualifier is not None and qualifier != "$LATEST"
    faults: list[str] = []

    async def ask(operation: str, call: Callable[..., Awaitable[Any]], **parameters: str) -> Answer:
        try:
            reply = await asyncio.wait_for(call(**parameters), timeout_s)
        except TimeoutError:
            return f"no answer to {operation} within {timeout_s:g} s"
        except Exception as error:  # noqa: BLE001 - whatever an optional API does, the run goes on
            code = _code(error)
            if code == "ProvisionedConcurrencyConfigNotFoundException":
                return {}
            faults.append(code)
            return f"{code.removesuffix('Exception')} for {operation}"
        return reply if isinstance(reply, dict) else f"no object from {operation}"

    asked = [
        ask("GetFunction", client.get_function, **named),
        ask("GetAccountSettings", client.get_account_settings),
    ]
    if has_provisioned:
        asked.append(
            ask("GetProvisionedConcurrencyConfig", client.get_provisioned_concurrency_config, **named)
        )
    answers = await asyncio.gather(*asked)
    refused = next((code for code in faults if code in _CREDENTIAL_CODES | _CREDENTIAL_FAULTS), None)
    return Replies(
        answers[0],
        answers[1],
        answers[2] if has_provisioned else None,
        function_missing=isinstance(answers[0], str) and answers[0].startswith("ResourceNotFound "),
        refusal=None if refused is None else f"credentials were refused: {refused}",
    )


def _code(error: Exception) -> str:
    """Lambda's error code, else what the HTTP status or the exception calls it."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        code = response.get("Error", {}).get("Code")
        if code and not str(code).isdigit():
            return str(code)
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode") or code
        if status:
            return f"HTTP {status}"
    return type(error).__name__


def _split(function: str, qualifier: str | None) -> tuple[str, str | None]:
    """Take the qualifier off a function name or ARN that has one; one given apart wins."""
    match = _FUNCTION_NAME.fullmatch(function)
    return (match[1], qualifier or match[2]) if match else (function, qualifier)
