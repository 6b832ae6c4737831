"""Settings of the emulator and its functions, and the variables of an environment."""

from __future__ import annotations

import os
import re
import secrets
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from fanout.emulator.simulation import Simulation
from fanout.emulator.specification import (
    parse_destination,
    parse_execution_timeout,
    parse_simulation,
)
from fanout.errors import EmulatorError

ACCOUNT_ID = "123456789012"
DEFAULT_ACCOUNT_CONCURRENCY = 1_000
DEFAULT_PORT = 9_001
DEFAULT_TIMEOUT_S = 60.0
MAX_TIMEOUT_S = 900.0
_PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")


@dataclass(slots=True, kw_only=True)
class FunctionSettings:
    """One function: a handler in a file, or a simulation."""

    name: str
    region: str
    handler: str = ""
    task_root: Path | None = None
    simulation: Simulation | None = None
    concurrency: int | None = None
    timeout_s: float = DEFAULT_TIMEOUT_S
    memory_mb: int = 128
    is_log_json: bool = False
    runtime: str = _PYTHON
    durable_s: float | None = None
    retention_s: float | None = None
    on_success: str = ""
    on_failure: str = ""
    dead_letter: str = ""

    @property
    def arn(self) -> str:
        """The unqualified ARN."""
        return f"arn:aws:lambda:{self.region}:{ACCOUNT_ID}:function:{self.name}"


@dataclass(slots=True, kw_only=True)
class Settings:
    """The whole emulator, as the command line has it. Raises EmulatorError for what cannot work."""

    handler: str | None = None
    command: tuple[str, ...] = ()
    simulate: tuple[str, ...] = ()
    name: str | None = None
    concurrency: int | None = None
    account_concurrency: int | None = None
    timeout: float = DEFAULT_TIMEOUT_S
    memory: int = 128
    bootstrap: str | None = None
    log_format: str = "Text"
    host: str = "127.0.0.1"
    port: int | None = None
    region: str | None = None
    seed: int = 0
    linger_ms: float = 0.0
    event_wait_scale: float = 1.0
    on_success: str | None = None
    on_failure: str | None = None
    dead_letter: str | None = None
    durable: str | None = None
    count_by: str | None = None
    ready_json: bool = False
    die_with_parent: bool = False
    init_check: bool = True
    no_limits: bool = False
    quiet: bool = False
    functions: list[FunctionSettings] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        """Check everything that can be checked before anything is started."""
        self.region = (
            self.region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
        )
        if self.port is None:
            self.port = 0 if self.command else DEFAULT_PORT
        if self.command and self.die_with_parent:
            raise EmulatorError("--die-with-parent cannot be given with -- COMMAND: it ends with the command")
        if not re.fullmatch(r"127(\.\d{1,3}){3}|localhost|::1", self.host):
            raise EmulatorError(f"--host {self.host}: the emulator listens on loopback only; use 127.0.0.1")
        if not 0 < self.timeout <= MAX_TIMEOUT_S:
            raise EmulatorError(f"--timeout {self.timeout:g}: must be above 0 and at most 900 seconds")
        if self.concurrency is not None and self.concurrency < 0:
            raise EmulatorError(f"--concurrency {self.concurrency}: must be 0 or more")
        if self.log_format not in {"Text", "JSON"}:
            raise EmulatorError(f"--log-format {self.log_format}: must be Text or JSON")
        self._check_destinations()
        if self.handler is not None:
            self.functions.append(self._handler_function(self.handler))
        self.functions += [self._simulated_function(text) for text in self.simulate]
        if not self.functions:
            raise EmulatorError("nothing to serve; give FILE.py:HANDLER or --simulate 'latency=100ms'")
        names = [function.name for function in self.functions]
        for name in names:
            if not _NAME.fullmatch(name):
                raise EmulatorError(
                    f"function name {name!r}: must be 1 to 64 letters, digits, hyphens, underscores"
                )
            if names.count(name) > 1:
                raise EmulatorError(f"function name {name!r} is used twice; give each --simulate a name=…")

    @property
    def account(self) -> int:
        """The account's concurrency: as asked, or what the reservations need, at least Lambda's default."""
        if self.account_concurrency is not None:
            return self.account_concurrency
        reserved = sum(function.concurrency or 0 for function in self.functions)
        return max(DEFAULT_ACCOUNT_CONCURRENCY, reserved + 100)

    def _destinations(self) -> dict[str, str]:
        return {
            "on_success": self.on_success or "",
            "on_failure": self.on_failure or "",
            "dead_letter": self.dead_letter or "",
        }

    def _check_destinations(self) -> None:
        for name, arn in self._destinations().items():
            try:
                if arn:
                    parse_destination(arn)
            except ValueError as error:
                raise EmulatorError(f"--{name.replace('_', '-')} {arn}: {error}") from error

    def _durable_s(self) -> float | None:
        if self.durable is None:
            return None
        try:
            return parse_execution_timeout(self.durable)
        except ValueError as error:
            raise EmulatorError(f"--durable {self.durable}: {error}") from error

    def _handler_function(self, handler: str) -> FunctionSettings:
        file, colon, attribute = handler.rpartition(":")
        if not colon or not file or not attribute:
            raise EmulatorError(
                f"handler {handler!r} names no function; write FILE.py:HANDLER, as app.py:handler"
            )
        path = Path(file)
        if not path.is_file():
            what = "is a directory" if path.is_dir() else "does not exist"
            raise EmulatorError(f"cannot import {file}: the file {what}; give FILE.py:HANDLER")
        assert self.region is not None
        return FunctionSettings(
            name=self.name or re.sub(r"[^a-zA-Z0-9_-]", "-", path.stem)[:64],
            region=self.region,
            handler=f"{path.stem}.{attribute}",
            task_root=path.resolve().parent,
            concurrency=self.concurrency,
            timeout_s=self.timeout,
            memory_mb=self.memory,
            is_log_json=self.log_format == "JSON",
            runtime="provided.al2023" if self.bootstrap else _PYTHON,
            durable_s=self._durable_s(),
            on_success=self.on_success or "",
            on_failure=self.on_failure or "",
            dead_letter=self.dead_letter or "",
        )

    def _simulated_function(self, text: str) -> FunctionSettings:
        simulation = parse_simulation(text)
        alone = self.handler is None and len(self.simulate) == 1
        if alone and self.name:
            simulation.name = self.name
        assert self.region is not None
        return FunctionSettings(
            name=simulation.name,
            region=self.region,
            handler="simulated",
            simulation=simulation,
            concurrency=self.concurrency
            if alone and simulation.concurrency is None
            else simulation.concurrency,
            timeout_s=simulation.timeout_s,
            memory_mb=simulation.memory_mb,
            is_log_json=self.log_format == "JSON",
            durable_s=self._durable_s() if simulation.durable_s is None else simulation.durable_s,
            retention_s=simulation.retention_s,
            on_success=simulation.on_success or self.on_success or "",
            on_failure=simulation.on_failure or self.on_failure or "",
            dead_letter=simulation.dead_letter or self.dead_letter or "",
        )


def environment_variables(settings: FunctionSettings, version: str, runtime_api: str) -> dict[str, str]:
    """Make the variables that Lambda sets in an environment."""
    stamp = time.strftime("%Y/%m/%d", time.gmtime())
    return {
        "AWS_LAMBDA_RUNTIME_API": runtime_api,
        "_HANDLER": settings.handler,
        "LAMBDA_TASK_ROOT": str(settings.task_root),
        "AWS_REGION": settings.region,
        "AWS_DEFAULT_REGION": settings.region,
        "AWS_EXECUTION_ENV": f"AWS_Lambda_{settings.runtime}",
        "AWS_LAMBDA_FUNCTION_NAME": settings.name,
        "AWS_LAMBDA_FUNCTION_VERSION": version,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(settings.memory_mb),
        "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{settings.name}",
        "AWS_LAMBDA_LOG_STREAM_NAME": f"{stamp}/[{version}]{secrets.token_hex(16)}",
        "AWS_LAMBDA_LOG_FORMAT": "JSON" if settings.is_log_json else "Text",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "PYTHONUNBUFFERED": "1",
        "TZ": ":UTC",
    }
