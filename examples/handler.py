"""A Lambda function that prices one order. Some orders it cannot price: then it raises.

    fanout emulate examples/handler.py:handler --concurrency 20

The same file, zipped, runs on AWS Lambda (Python runtime, handler name ``handler.handler``).
"""

from __future__ import annotations

import random
import time
from typing import Any

TO_EUR = {"EUR": 1.0, "USD": 0.92, "GBP": 1.17, "JPY": 0.0061, "PLN": 0.23}
COUPONS = {"WELCOME10": 0.10, "WINTER25": 0.25}
SHIPPING_EUR = {"DE": 4.9, "FR": 6.9, "ES": 6.9, "PL": 7.9, "IE": 8.9, "GR": 8.9}
SHIPPING_ELSEWHERE_EUR = 19.9


class UnknownCurrencyError(Exception):
    """There is no rate for the order's currency."""


def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:  # noqa: ARG001 - Lambda calls it so
    """The order's total in euros."""
    time.sleep(random.uniform(0.02, 0.08))  # the database and the tax service that a real one asks
    rate = TO_EUR.get(event["currency"])
    if rate is None:
        raise UnknownCurrencyError(f"no rate for {event['currency']}")
    goods = sum(_line_total(item) for item in event["items"]) * rate
    discount = goods * COUPONS.get(event.get("coupon", ""), 0.0)
    shipping = SHIPPING_EUR.get(event["shipping_address"]["country"], SHIPPING_ELSEWHERE_EUR)
    return {
        "id": event["id"],
        "goods_eur": round(goods, 2),
        "discount_eur": round(discount, 2),
        "shipping_eur": shipping,
        "total_eur": round(goods - discount + shipping, 2),
    }


def _line_total(item: dict[str, Any]) -> float:
    quantity, price = item["quantity"], item["price"]
    if quantity < 1:
        raise ValueError(f"quantity of {item['sku']} is {quantity}: give 1 or more")
    return float(quantity * price)
