"""Workers in the test's own process, for those tests that want them."""

from __future__ import annotations

import pytest

from tests.workers.crew_here import CrewHere, Function, install


@pytest.fixture
def function() -> Function:
    """What all workers call."""
    return Function()


@pytest.fixture
def crews(monkeypatch: pytest.MonkeyPatch, function: Function) -> list[CrewHere]:
    """The crews of the test's runs, as they are made."""
    return install(monkeypatch, function)
