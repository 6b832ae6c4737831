"""The hooks of a dispatcher: what its owner hears of besides outcomes."""

from __future__ import annotations


class Hooks:
    """Every method is called on the event loop and must be quick. This one ignores all."""

    def on_throttle(self, reason: str) -> None:
        """One call was throttled; ``reason`` is Lambda's, or its error code."""
