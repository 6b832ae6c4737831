"""Registry of functions, versions and aliases, and how the API describes them."""

from __future__ import annotations

import hashlib
import re
import time
from dataclasses import dataclass, field
from typing import Any

from fanout.emulator.durable import DurableSettings
from fanout.emulator.lifecycle import Lifecycle, Window
from fanout.emulator.model import FunctionLoad
from fanout.emulator.pool import Pool
from fanout.emulator.record_faults import RecordFaults
from fanout.emulator.settings import FunctionSettings
from fanout.emulator.simulation import Dice
from fanout.function_name import parse_function_name

LATEST = "$LATEST"
LATEST_PUBLISHED = "$LATEST.PUBLISHED"
PAGE = 50
_QUALIFIER = re.compile(r"[a-zA-Z0-9$_.-]{1,128}")


class UnknownFunction(Exception):
    """No such function, version or alias; ``arn`` is what was looked for."""

    def __init__(self, arn: str) -> None:
        super().__init__(arn)
        self.arn = arn


class BadReference(Exception):
    """The name or qualifier breaks the API's pattern."""


@dataclass(slots=True)
class Function:
    """One function as the emulator serves it: a pool of environments, or dice."""

    settings: FunctionSettings
    load: FunctionLoad
    lifecycle: Lifecycle
    pool: Pool | None = None
    dice: Dice | None = None
    versions: list[str] = field(default_factory=list)
    aliases: dict[str, str] = field(default_factory=dict)
    event_configs: dict[str, dict[str, Any]] = field(default_factory=dict)
    dead_letter: str = ""
    durable: DurableSettings | None = None
    record_faults: RecordFaults | None = None
    refusals: tuple[Window, ...] = ()
    last_modified_s: float = field(default_factory=time.time)

    def resolve(self, qualifier: str) -> str | None:
        """Find the version that a qualifier means; None if there is none such."""
        if not qualifier or qualifier == LATEST:
            return LATEST
        if qualifier == LATEST_PUBLISHED:
            return self.versions[-1] if self.versions else None
        version = self.aliases.get(qualifier, qualifier)
        return version if version in self.versions else None

    def event_config(self, qualifier: str) -> dict[str, Any] | None:
        """Find how Event calls to a qualifier are treated: as set for it, or as the function began."""
        return self.event_configs.get(qualifier or LATEST) or self.event_configs.get("")

    def arn(self, qualifier: str = "") -> str:
        """Make the ARN, qualified if asked."""
        return f"{self.settings.arn}:{qualifier}" if qualifier else self.settings.arn

    def configuration(self, qualifier: str = "", *, version: str | None = None) -> dict[str, Any]:
        """Describe the function as FunctionConfiguration."""
        settings = self.settings
        version = version or self.resolve(qualifier) or LATEST
        state = self.lifecycle.state(time.monotonic())
        modified = time.strftime("%Y-%m-%dT%H:%M:%S.000+0000", time.gmtime(self.last_modified_s))
        described: dict[str, Any] = {
            "FunctionName": settings.name,
            "FunctionArn": self.arn(qualifier),
            "Runtime": settings.runtime,
            "Role": f"arn:aws:iam::{settings.arn.split(':')[4]}:role/emulated",
            "Handler": settings.handler,
            "CodeSize": 0,
            "CodeSha256": hashlib.sha256(settings.handler.encode()).hexdigest(),
            "Description": "",
            "Timeout": max(1, round(settings.timeout_s)),
            "MemorySize": settings.memory_mb,
            "LastModified": modified,
            "Version": version,
            "PackageType": "Zip",
            "Architectures": ["x86_64"],
            "EphemeralStorage": {"Size": 512},
            "State": state.name,
            "LastUpdateStatus": "Successful",
            "TracingConfig": {"Mode": "PassThrough"},
            "SnapStart": {"ApplyOn": "None", "OptimizationStatus": "Off"},
            "LoggingConfig": {
                "LogFormat": "JSON" if settings.is_log_json else "Text",
                "LogGroup": f"/aws/lambda/{settings.name}",
            },
        }
        if state.code:
            described |= {"StateReason": state.reason, "StateReasonCode": state.code}
        if self.dead_letter:
            described["DeadLetterConfig"] = {"TargetArn": self.dead_letter}
        if self.durable is not None:
            described["DurableConfig"] = self.durable.as_json()
        return described


class Registry:
    """All functions, by name."""

    def __init__(self, region: str, account_id: str) -> None:
        self._prefix = f"arn:aws:lambda:{region}:{account_id}:function:"
        self.functions: dict[str, Function] = {}

    def add(self, function: Function) -> None:
        """Serve a function."""
        self.functions[function.settings.name] = function

    def find(self, reference: str, query_qualifier: str = "") -> tuple[Function, str, str]:
        """Find function, qualifier and executed version; raises UnknownFunction or BadReference."""
        function, qualifier = self.functions.get(reference), query_qualifier
        if query_qualifier and not _QUALIFIER.fullmatch(query_qualifier):
            raise BadReference(
                f"1 validation error detected: Value '{query_qualifier[:300]}' at 'qualifier' failed to "
                "satisfy constraint: Member must have 1 to 128 letters, digits, $, hyphens, underscores"
            )
        if function is None:
            match = parse_function_name(reference)  # account and Region are not compared with ours
            if match is None:
                raise BadReference(
                    f"1 validation error detected: Value '{reference[:300]}' at 'functionName' failed to "
                    "satisfy constraint: Member must be a function name, a partial ARN or an ARN"
                )
            if match["qualifier"] and query_qualifier and match["qualifier"] != query_qualifier:
                raise BadReference(
                    "The derived qualifier from the function name does not match the specified qualifier."
                )
            qualifier = match["qualifier"] or query_qualifier
            function = self.functions.get(match["name"])
            if function is None:
                raise UnknownFunction(self._prefix + match["name"] + (f":{qualifier}" if qualifier else ""))
        version = function.resolve(qualifier)
        if version is None:
            raise UnknownFunction(function.arn(qualifier))
        return function, qualifier, version

    def page(self, marker: str, limit: int) -> tuple[list[Function], str | None]:
        """List functions by name after ``marker``, and the marker of the page that follows."""
        names = sorted(name for name in self.functions if name > marker)
        chosen = names[: min(limit, PAGE)]
        following = chosen[-1] if chosen and len(names) > len(chosen) else None
        return [self.functions[name] for name in chosen], following
