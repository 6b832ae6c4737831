"""Operations beside Invoke: functions, limits, versions, aliases, event settings."""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

from fanout.emulator.durable import PAGE as EXECUTIONS_PAGE
from fanout.emulator.durable import DurableExecutions
from fanout.emulator.functions import LATEST, PAGE, Function, Registry
from fanout.emulator.model import KEPT_UNRESERVED, Account, ControlPlane, Reason
from fanout.emulator.replies import Refusal, denied, invalid, not_found, throttled
from fanout.emulator.request import Request
from fanout.emulator.routes import route
from fanout.emulator.specification import DESTINATION

Answer = tuple[int, Any]


class ControlApi:
    """Routes and answers the control plane, at most 100 GetFunction and 15 other requests a second."""

    def __init__(
        self,
        registry: Registry,
        account: Account,
        plane: ControlPlane,
        denied_operations: set[str],
        executions: DurableExecutions,
    ) -> None:
        self._registry = registry
        self._account = account
        self._plane = plane
        self._denied = denied_operations
        self._executions = executions

    async def answer(self, request: Request, count: Callable[[str], None]) -> None:
        """Answer one request; raises Refusal."""
        method, path = request.scope["method"], request.scope["raw_path"].decode("latin-1").rstrip("/")
        operation, parts = route(method, path)
        count(operation)
        if operation in self._denied:
            raise denied(operation)
        if not self._plane.admit(operation, time.monotonic()):
            raise throttled(Reason.CALLER_RATE)
        handler: Callable[..., Awaitable[Answer]] = getattr(self, f"_{_snake(operation)}")
        status, value = await handler(request, *(unquote(part) for part in parts))
        await request.reply_json(status, value)

    def _find(self, request: Request, reference: str) -> tuple[Function, str]:
        function, qualifier, _ = self._registry.find(reference, request.query("Qualifier"))
        return function, qualifier

    async def _get_function(self, request: Request, reference: str) -> Answer:
        function, qualifier = self._find(request, reference)
        answer: dict[str, Any] = {
            "Configuration": function.configuration(qualifier),
            "Code": {"RepositoryType": "S3", "Location": "https://emulated.invalid/code.zip"},
            "Tags": {},
        }
        if function.load.reserved is not None:
            answer["Concurrency"] = {"ReservedConcurrentExecutions": function.load.reserved}
        return 200, answer

    async def _get_function_configuration(self, request: Request, reference: str) -> Answer:
        function, qualifier = self._find(request, reference)
        return 200, function.configuration(qualifier)

    async def _update_function_configuration(self, request: Request, reference: str) -> Answer:
        function, _ = self._find(request, reference)
        changes = await request.json()
        if "Timeout" in changes:
            function.settings.timeout_s = float(_within(changes, "Timeout", 1, 900))
        if "MemorySize" in changes:
            function.settings.memory_mb = _within(changes, "MemorySize", 128, 32_768)
        if "DeadLetterConfig" in changes:
            target = changes["DeadLetterConfig"]
            arn = target.get("TargetArn") if isinstance(target, dict) else None
            function.dead_letter = _destination(arn) if arn else ""
        function.last_modified_s = time.time()
        return 200, function.configuration()

    async def _list_functions(self, request: Request) -> Answer:
        limit = _max_items(request, PAGE, 10_000)
        functions, marker = self._registry.page(request.query("Marker"), limit)
        return 200, {"Functions": [function.configuration() for function in functions], "NextMarker": marker}

    async def _get_account_settings(self, _exchange: Request) -> Answer:
        return 200, {
            "AccountLimit": {
                "TotalCodeSize": 80_530_636_800,
                "CodeSizeUnzipped": 262_144_000,
                "CodeSizeZipped": 52_428_800,
                "ConcurrentExecutions": self._account.concurrency,
                "UnreservedConcurrentExecutions": self._account.unreserved,
            },
            "AccountUsage": {"TotalCodeSize": 0, "FunctionCount": len(self._registry.functions)},
        }

    async def _get_function_concurrency(self, request: Request, reference: str) -> Answer:
        function, _ = self._find(request, reference)
        reserved = function.load.reserved
        return 200, {} if reserved is None else {"ReservedConcurrentExecutions": reserved}

    async def _put_function_concurrency(self, request: Request, reference: str) -> Answer:
        function, _ = self._find(request, reference)
        reserved = _within(await request.json(), "ReservedConcurrentExecutions", 0, 10**9)
        if not self._account.may_reserve(function.load, reserved):
            raise invalid(
                "Specified ReservedConcurrentExecutions for function decreases account's "
                f"UnreservedConcurrentExecution below its minimum value of [{KEPT_UNRESERVED}]."
            )
        self._account.set_reserved(function.load, reserved, time.monotonic())
        return 200, {"ReservedConcurrentExecutions": reserved}

    async def _delete_function_concurrency(self, request: Request, reference: str) -> Answer:
        function, _ = self._find(request, reference)
        self._account.set_reserved(function.load, None, time.monotonic())
        return 204, None

    async def _get_provisioned_concurrency_config(self, request: Request, reference: str) -> Answer:
        function, qualifier = self._find(request, reference)
        if request.query("List"):
            configs = [
                {"FunctionArn": function.arn(name), **_provisioned(count)}
                for name, count in function.load.provisioned.items()
            ]
            return 200, {"ProvisionedConcurrencyConfigs": configs}
        if qualifier not in function.load.provisioned:
            raise _no_provisioned(function.settings.name)
        return 200, _provisioned(function.load.provisioned[qualifier])

    async def _put_provisioned_concurrency_config(self, request: Request, reference: str) -> Answer:
        function, qualifier = self._find(request, reference)
        if qualifier in {"", LATEST}:
            raise invalid(
                "Provisioned Concurrency Configs cannot be applied to unpublished function versions."
            )
        count = _within(await request.json(), "ProvisionedConcurrentExecutions", 1, 10**9)
        self._account.set_provisioned(function.load, qualifier, count)
        return 202, _provisioned(count)

    async def _delete_provisioned_concurrency_config(self, request: Request, reference: str) -> Answer:
        function, qualifier = self._find(request, reference)
        if qualifier not in function.load.provisioned:
            raise _no_provisioned(function.settings.name)
        self._account.set_provisioned(function.load, qualifier, None)
        return 204, None

    async def _get_function_event_invoke_config(self, request: Request, reference: str) -> Answer:
        function, qualifier = self._find(request, reference)
        config = function.event_config(qualifier)
        if config is None:
            arn = function.arn(qualifier or LATEST)
            message = f"The function {arn} doesn't have an EventInvokeConfig"
            raise Refusal(404, "ResourceNotFoundException", message, member="Message")
        return 200, config

    async def _list_function_event_invoke_configs(self, request: Request, reference: str) -> Answer:
        function, _ = self._find(request, reference)
        return 200, {"FunctionEventInvokeConfigs": list(function.event_configs.values())}

    async def _put_function_event_invoke_config(self, request: Request, reference: str) -> Answer:
        function, qualifier = self._find(request, reference)
        asked = await request.json()
        known = function.event_config(qualifier)
        config = {} if request.scope["method"] == "PUT" or known is None else dict(known)
        if asked.get("MaximumRetryAttempts") is not None:
            config["MaximumRetryAttempts"] = _within(asked, "MaximumRetryAttempts", 0, 2)
        if asked.get("MaximumEventAgeInSeconds") is not None:
            config["MaximumEventAgeInSeconds"] = _within(asked, "MaximumEventAgeInSeconds", 60, 21_600)
        if asked.get("DestinationConfig") is not None or "DestinationConfig" not in config:
            config["DestinationConfig"] = _destinations(asked.get("DestinationConfig"))
        config |= {"FunctionArn": function.arn(qualifier or LATEST), "LastModified": time.time()}
        function.event_configs[qualifier or LATEST] = config
        return 200, config

    _update_function_event_invoke_config = _put_function_event_invoke_config

    async def _delete_function_event_invoke_config(self, request: Request, reference: str) -> Answer:
        function, qualifier = self._find(request, reference)
        function.event_configs.pop(qualifier or LATEST, None)
        function.event_configs.pop("", None)
        return 204, None

    async def _list_durable_executions_by_function(self, request: Request, reference: str) -> Answer:
        function, _ = self._find(request, reference)
        executions, marker = self._executions.page(
            function.settings.name,
            name=request.query("DurableExecutionName"),
            statuses=request.queries("Statuses"),
            started_after_s=_moment(request, "StartedAfter", float("-inf")),
            started_before_s=_moment(request, "StartedBefore", float("inf")),
            is_reversed=request.query("ReverseOrder") == "true",
            marker=request.query("Marker"),
            limit=_max_items(request, EXECUTIONS_PAGE, EXECUTIONS_PAGE),
        )
        return 200, {"DurableExecutions": [one.summary() for one in executions], "NextMarker": marker}

    async def _get_durable_execution(self, _request: Request, arn: str) -> Answer:
        return 200, self._executions.get(arn).describe()

    async def _publish_version(self, request: Request, reference: str) -> Answer:
        function, _ = self._find(request, reference)
        version = str(len(function.versions) + 1)
        function.versions.append(version)
        return 201, function.configuration(version)

    async def _list_versions_by_function(self, request: Request, reference: str) -> Answer:
        function, _ = self._find(request, reference)
        return 200, {
            "Versions": [function.configuration(version) for version in [LATEST, *function.versions]]
        }

    async def _create_alias(self, request: Request, reference: str) -> Answer:
        function, _ = self._find(request, reference)
        asked = await request.json()
        name = str(asked.get("Name", ""))
        if not re.fullmatch(r"(?!\d+$)[a-zA-Z0-9_-]{1,128}", name):
            raise invalid(
                "Alias name must have 1 to 128 letters, digits, hyphens, underscores, and not digits alone"
            )
        if name in function.aliases:
            raise Refusal(409, "ResourceConflictException", f"Alias already exists: {function.arn(name)}")
        return 201, self._point(function, name, str(asked.get("FunctionVersion", "")))

    async def _get_alias(self, request: Request, reference: str, name: str) -> Answer:
        function, _ = self._find(request, reference)
        if name not in function.aliases:
            raise not_found(function.arn(name))
        return 200, self._alias(function, name)

    async def _list_aliases(self, request: Request, reference: str) -> Answer:
        function, _ = self._find(request, reference)
        return 200, {"Aliases": [self._alias(function, name) for name in sorted(function.aliases)]}

    async def _update_alias(self, request: Request, reference: str, name: str) -> Answer:
        function, _ = self._find(request, reference)
        if name not in function.aliases:
            raise not_found(function.arn(name))
        asked = await request.json()
        return 200, self._point(function, name, str(asked.get("FunctionVersion") or function.aliases[name]))

    async def _delete_alias(self, request: Request, reference: str, name: str) -> Answer:
        self._find(request, reference)[0].aliases.pop(name, None)
        return 204, None

    def _point(self, function: Function, name: str, version: str) -> dict[str, str]:
        if version != LATEST and version not in function.versions:
            raise not_found(function.arn(version))
        function.aliases[name] = version
        return self._alias(function, name)

    @staticmethod
    def _alias(function: Function, name: str) -> dict[str, str]:
        version = function.aliases[name]
        return {"AliasArn": function.arn(name), "Name": name, "FunctionVersion": version, "Description": ""}


def _max_items(request: Request, default: int, most: int) -> int:
    asked = request.query("MaxItems") or str(default)
    if not asked.isdecimal() or not asked.isascii() or not 1 <= int(asked[:9]) <= most:
        raise invalid(f"Value {asked[:100]!r} at 'maxItems' must be from 1 to {most}")
    return int(asked)


def _moment(request: Request, name: str, default: float) -> float:
    text = request.query(name)
    if not text:
        return default
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise invalid(
            f"Value {text[:100]!r} at {name!r} must be a timestamp as 2026-11-21T08:00:00Z"
        ) from None
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()


def _destinations(asked: Any) -> dict[str, Any]:
    config: dict[str, Any] = {"OnSuccess": {}, "OnFailure": {}}
    if asked is None:
        return config
    if not isinstance(asked, dict):
        raise invalid("DestinationConfig must be an object")
    for side in config:
        arn = (asked.get(side) or {}).get("Destination") if isinstance(asked.get(side) or {}, dict) else None
        if arn is not None:
            config[side] = {"Destination": _destination(arn)}
    return config


def _destination(arn: Any) -> str:
    if not isinstance(arn, str) or not DESTINATION.fullmatch(arn):
        raise invalid(f"The destination {str(arn)[:200]!r} is not the ARN of an SQS queue or an SNS topic")
    return arn


def _within(asked: dict[str, Any], member: str, low: int, high: int) -> int:
    value = asked.get(member)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise invalid(f"Value {value!r} at '{member}' must be a whole number from {low} to {high}")
    return value


def _provisioned(count: int) -> dict[str, Any]:
    return {
        "RequestedProvisionedConcurrentExecutions": count,
        "AvailableProvisionedConcurrentExecutions": count,
        "AllocatedProvisionedConcurrentExecutions": count,
        "Status": "READY",
        "LastModified": time.strftime("%Y-%m-%dT%H:%M:%S+0000", time.gmtime()),
    }


def _no_provisioned(name: str) -> Refusal:
    message = f"No Provisioned Concurrency Config found for this function {name}"
    return Refusal(404, "ProvisionedConcurrencyConfigNotFoundException", message)


def _snake(operation: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", operation).lower()
