"""A whole batch in one call: ``fanout.run`` for scripts; start, resume and redrive for the command."""

from __future__ import annotations

from fanout.commands.library import dry_run, run

__all__ = ["dry_run", "run"]
