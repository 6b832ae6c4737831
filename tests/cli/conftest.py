"""Fixtures of the command's tests."""

from tests.cli.running import shared_emulator, shell

__all__ = ["shared_emulator", "shell"]
