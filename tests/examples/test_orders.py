"""The orders and the handler that everything else here is made of."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from typing import Any

import pytest

from .conftest import EXAMPLES


def orders() -> list[dict[str, Any]]:
    lines = (EXAMPLES / "orders.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_the_orders_are_those_that_the_script_makes() -> None:
    """Anybody can make the same file again: the script is where to change it."""
    made = subprocess.run(
        [sys.executable, str(EXAMPLES / "make_orders.py")],
        check=True,
        capture_output=True,
        env={"PYTHONUTF8": "1"},
    )
    assert made.stdout == (EXAMPLES / "orders.jsonl").read_bytes()


def test_there_are_a_thousand_different_orders() -> None:
    """A thousand, with an id of their own, in several currencies and scripts."""
    found = orders()
    assert len({order["id"] for order in found}) == len(found) == 1_000
    assert len({order["currency"] for order in found}) >= 5
    assert any("山田" in order["customer"]["name"] for order in found)


def test_the_handler_prices_what_is_right_and_raises_for_what_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dozen orders fail, in three ways; each other total is goods less discount, shipped."""
    monkeypatch.setattr("time.sleep", lambda _: None)
    handler = runpy.run_path(str(EXAMPLES / "handler.py"))["handler"]
    errors: list[str] = []
    for order in orders():
        try:
            priced = handler(order, None)
        except Exception as error:
            errors.append(type(error).__name__)
            continue
        assert priced["id"] == order["id"]
        total = priced["goods_eur"] - priced["discount_eur"] + priced["shipping_eur"]
        assert priced["total_eur"] == pytest.approx(total, abs=0.02)
    assert sorted(errors) == ["KeyError"] * 3 + ["UnknownCurrencyError"] * 5 + ["ValueError"] * 4
