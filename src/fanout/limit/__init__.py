"""Limits on calls in flight: pure numbers, learned from replies; the gate enforces them.

Nothing here waits, sends or reads a clock: every method takes ``now_s``, seconds of one monotonic clock.
"""

from __future__ import annotations

from fanout.limit.adaptive import AdaptiveLimit
from fanout.limit.protocol import Cause, Limit
from fanout.limit.ramp import ManagedRamp, Ramp, Scaling

__all__ = ["AdaptiveLimit", "Cause", "Limit", "ManagedRamp", "Ramp", "Scaling"]
