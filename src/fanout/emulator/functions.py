"""Registry of functions, versions and aliases, and how the API describes them."""

from __future__ import annotations

import hashlib
import re
import time
from dataclasses import dataclass, field
from typing import Any

from fanout.emulator.model import FunctionLoad
from fanout.emulator.pool import Pool
from fanout.emulator.settings import FunctionSettings
from fanout.emulator.simulation import Dice

LATEST = "$LATEST"
PAGE = 50
# The pattern of the API model; the account and the Region of an ARN are not compared with ours.
_REFERENCE = re.compile(
    r"(?:arn:aws[a-zA-Z-]*:lambda:)?(?:[a-z]{2}(?:-gov|-iso[a-z]?)?-[a-z]+-\d:)?(?:\d{12}:)?(?:function:)?"
    r"(?P<name>[a-zA-Z0-9-_.]+)(?::(?P<qualifier>\$LATEST(?:\.PUBLISHED)?|[a-zA-Z0-9-_]+))?"
)


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
    pool: Pool | None = None
    dice: Dice | None = None
    versions: list[str] = field(default_factory=list)
    aliases: dict[str, str] = field(default_factory=dict)
    event_config: dict[str, Any] | None = None
    last_modified_s: float = field(default_factory=time.time)

    def resolve(self, qualifier: str) -> str | None:
        """Find the version that a qualifier means; None if there is none such."""
        if not qualifier or qualifier == LATEST:
            return LATEST
        version = self.aliases.get(qualifier, qualifier)
        return version if version in self.versions else None

    def arn(self, qualifier: str = "") -> str:
        """Make the ARN, qualified if asked."""
        return f"{self.settings.arn}:{qualifier}" if qualifier else self.settings.arn

    def configuration(self, qualifier: str = "", *, version: str | None = None) -> dict[str, Any]:
        """Describe the function as FunctionConfiguration."""
        settings = self.settings
        version = version or self.resolve(qualifier) or LATEST
        modified = time.strftime("%Y-%m-%dT%H:%M:%S.000+0000", time.gmtime(self.last_modified_s))
        return {
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
            "State": "Active",
            "LastUpdateStatus": "Successful",
            "TracingConfig": {"Mode": "PassThrough"},
            "SnapStart": {"ApplyOn": "None", "OptimizationStatus": "Off"},
            "LoggingConfig": {
                "LogFormat": "JSON" if settings.is_log_json else "Text",
                "LogGroup": f"/aws/lambda/{settings.name}",
            },
        }


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
        if function is None:
            match = _REFERENCE.fullmatch(reference)
            if match is None or len(reference) > 256:
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
