"""No setting of the machine reaches these tests: no proxy, no profile, no credentials, no Region."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

import pytest

from tests.transports.wire import share_service_models

# On Python 3.11 asyncio makes a loop when the main thread is first asked for one, and pytest-asyncio
# would never close it; after this none is made.
asyncio.set_event_loop(None)


@pytest.fixture(autouse=True, scope="package")
def _bare_environment() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ:
            if name.startswith(("AWS_", "_X_AMZN")) or name.lower().endswith("_proxy"):
                patch.delenv(name)
        patch.setenv("AWS_CONFIG_FILE", "/nonexistent")
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        share_service_models(patch)
        yield
