"""The Protocol of a crew: which workers there are, and a way to speak to each."""

from __future__ import annotations

from typing import Protocol


class Link(Protocol):
    """Speaks to one worker. Both raise OSError, or whatever the carrier raises, when it is not reached."""

    async def begin(self, settings: bytes) -> bytes: ...

    async def exchange(self, order: bytes) -> bytes: ...


class Crew(Protocol):
    """The workers of a run."""

    is_child: bool
    """Whether they are processes of this one."""

    start_message: str

    async def open(self) -> None:
        """Start or find them. Raises ConfigError."""
        ...

    async def members(self) -> list[str]:
        """Names of the workers that are there now."""
        ...

    async def link(self, name: str) -> Link:
        """A way to a worker, placed on it."""
        ...

    async def aclose(self) -> None:
        """End what ``open`` began."""
        ...
