"""Command that runs beside the emulator, with the environment that leads its Lambda calls there."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from fanout.errors import EmulatorError

_DUMMY_KEYS = {"AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local"}
_SOURCES = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_ROLE_ARN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
_PROFILE_MEMBERS = (
    "aws_access_key_id",
    "credential_process",
    "credential_source",
    "login_session",
    "role_arn",
    "sso_account_id",
    "sso_session",
    "web_identity_token_file",
)
_VENDOR = Path("/sys/devices/virtual/dmi/id/sys_vendor")


class Command:
    """One command. Raises EmulatorError, before anything is started, for one that cannot run."""

    def __init__(self, words: Sequence[str], *, region: str) -> None:
        self._words = list(words)
        self._region = region
        self._process: asyncio.subprocess.Process | None = None
        self._pending: signal.Signals | None = None
        if shutil.which(words[0]) is None:
            raise EmulatorError(f"cannot run {words[0]}: no such command")
        if os.environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true":
            raise EmulatorError(
                "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS is true: the command's calls would go to AWS; unset it"
            )

    def watch_signals(self, loop: asyncio.AbstractEventLoop) -> None:
        """Leave Ctrl-C to the command, which the terminal sends it too, and pass SIGTERM and SIGHUP on."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:
                loop.add_signal_handler(number, self._pass_on, number)

    async def run(self, url: str) -> int:
        """Run it to its end; returns its exit code, 128 and the number for a signal, as a shell has it."""
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._words, env=environment(os.environ, url, self._region)
            )
        except OSError as error:
            what = os.strerror(error.errno).lower() if error.errno else str(error)
            raise EmulatorError(f"cannot run {self._words[0]}: {what}") from error
        if self._pending is not None:
            self._pass_on(self._pending)
        code = await self._process.wait()
        return 128 - code if code < 0 else code

    def _pass_on(self, number: signal.Signals) -> None:
        if self._process is None:
            self._pending = number
        elif number is not signal.SIGINT:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)


def _typed(words: Sequence[str]) -> str:
    """What was typed up to the command: what goes on with its runs needs the same in front."""
    own = list(words[1 : words.index("--")] if "--" in words else words[1:])
    return shlex.join(["fanout", "emulate", *own[own[:1] == ["emulate"] :], "--"])


def environment(own: Mapping[str, str], url: str, region: str) -> dict[str, str]:
    """Add what leads Lambda calls to ``url``; keys and Region only where there are none.

    Other services keep the credentials and the endpoints that they have.
    """
    environ = dict(own)
    environ["AWS_ENDPOINT_URL_LAMBDA"] = url
    environ["FANOUT_REHEARSAL"] = _typed(sys.argv)
    environ["AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"] = "false"  # a profile's setting would hide the address
    profile = _profile(own)
    if not any(own.get(name) for name in _SOURCES) and not profile & set(_PROFILE_MEMBERS) and not _is_ec2():
        environ |= _DUMMY_KEYS
    if not own.get("AWS_REGION") and not own.get("AWS_DEFAULT_REGION") and "region" not in profile:
        environ["AWS_REGION"] = environ["AWS_DEFAULT_REGION"] = region
    proxied = [name for name in own if name.lower() in {"http_proxy", "all_proxy"}]
    if proxied:
        excepted = own.get("no_proxy") or own.get("NO_PROXY") or ""
        environ["no_proxy"] = environ["NO_PROXY"] = f"{excepted},127.0.0.1,localhost".lstrip(",")
    return environ


def _profile(own: Mapping[str, str]) -> set[str]:
    """List the settings of the profile in force, from the AWS configuration files."""
    import configparser

    name = own.get("AWS_PROFILE") or own.get("AWS_DEFAULT_PROFILE") or "default"
    found: set[str] = set()
    config_section = "default" if name == "default" else f"profile {name}"
    files = (
        (own.get("AWS_CONFIG_FILE") or "~/.aws/config", config_section),
        (own.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials", name),
    )
    for path, section in files:
        parser = configparser.RawConfigParser(strict=False)
        with contextlib.suppress(configparser.Error, OSError, UnicodeDecodeError):
            parser.read(Path(path).expanduser(), encoding="utf-8")
        if parser.has_section(section):
            found |= set(parser.options(section))
    return found


def _is_ec2() -> bool:
    """Say whether an instance role may be there."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return "amazon" in _VENDOR.read_text(encoding="utf-8").lower()
    return False
