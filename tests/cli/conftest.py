"""Fixtures of the command's tests."""

from collections.abc import Iterator

import pytest

from tests.cli.inside import inside
from tests.cli.running import shared_emulator, shell
from tests.cli.serving import serving
from tests.transports.wire import Wire

__all__ = ["endpoint", "inside", "shared_emulator", "shell"]


@pytest.fixture(scope="module")
def endpoint() -> Iterator[Wire]:
    """One endpoint for all tests of a module."""
    with serving() as found:
        yield found
