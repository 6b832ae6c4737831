"""The live page of a run: what the display shows, with charts and controls, for a browser on this machine."""

from __future__ import annotations

from fanout.dashboard.server import Dashboard
from fanout.dashboard.view import Controls, Watched

__all__ = ["Controls", "Dashboard", "Watched"]
