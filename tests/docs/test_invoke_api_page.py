"""docs/invoke-api.md names tests that exist, and no member of the API is missing from it."""

from __future__ import annotations

import re
from pathlib import Path

import botocore.session
import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "invoke-api.md").read_text()


def test_every_test_that_the_page_names_exists() -> None:
    """A promise that points to nothing is none."""
    sources = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    assert len(named) > 40
    assert named <= set(re.findall(r"^(?:async )?def (test_\w+)", sources, re.MULTILINE))


@pytest.mark.slow  # compares with whatever botocore is installed: a new release may add members
def test_every_member_of_the_service_model_is_on_the_page() -> None:
    """Inputs, outputs and errors of Invoke and InvokeWithResponseStream, as botocore knows them."""
    model = botocore.session.get_session().get_service_model("lambda")
    for name in ("Invoke", "InvokeWithResponseStream"):
        operation = model.operation_model(name)
        members = [*operation.input_shape.members, *operation.output_shape.members]
        for member in [*members, *(error.name for error in operation.error_shapes)]:
            assert member == "EventStream" or member in PAGE, f"{name}: {member}"
