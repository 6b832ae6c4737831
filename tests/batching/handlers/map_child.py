"""A child of a Distributed Map with an ItemBatcher."""

from typing import Any


def handler(event: dict[str, Any], context: Any) -> dict[str, str]:
    """The sum of the items, in the currency of the batch."""
    total = sum(item["price"] for item in event["Items"])
    return {"total": f"{total} {event['BatchInput']['currency']}"}
