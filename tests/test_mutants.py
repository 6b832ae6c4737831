"""The places that ``python -m tests.mutants`` changes are still there, and so are their tests."""

from __future__ import annotations

import ast

import pytest

from tests.mutants import ROOT, TARGETS, within


@pytest.mark.parametrize("name", TARGETS)
def test_a_place_and_its_tests_exist(name: str) -> None:
    """A function that is renamed or moved takes its entry with it."""
    module, _, place = name.partition("::")
    path = ROOT / "src" / "fanout" / module
    assert path.exists()
    assert all((ROOT / test).exists() for test in TARGETS[name])
    if place:
        assert within(ast.parse(path.read_text("utf-8")), place)
