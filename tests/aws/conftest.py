"""The sessions of these tests share what botocore reads from its files."""

from __future__ import annotations

import pytest

from tests.service_models import share_service_models


@pytest.fixture(autouse=True)
def _shared_service_models(monkeypatch: pytest.MonkeyPatch) -> None:
    share_service_models(monkeypatch)
