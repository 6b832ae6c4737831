"""Token bucket and scaling rule. Pure, as the model is."""

from __future__ import annotations

SCALING_PERIOD_S = 10.0


class TokenBucket:
    """Allow ``rate_per_s`` a second, with a burst of one second's worth after a pause."""

    __slots__ = ("_tokens", "_updated_at_s", "rate_per_s")

    def __init__(self, rate_per_s: float) -> None:
        self.rate_per_s = rate_per_s
        self._tokens = rate_per_s
        self._updated_at_s: float | None = None

    def has_token(self, now_s: float) -> bool:
        """Say whether a token is there now; takes none."""
        if self._updated_at_s is not None and now_s > self._updated_at_s:
            self._tokens = min(self.rate_per_s, self._tokens + (now_s - self._updated_at_s) * self.rate_per_s)
        if self._updated_at_s is None or now_s > self._updated_at_s:
            self._updated_at_s = now_s
        # A hair below one: sums of many small refills must not cost a whole token.
        return self._tokens >= 1 - 1e-9

    def take(self) -> None:
        """Use up the token that ``has_token`` has just shown."""
        self._tokens -= 1

    def set_rate(self, rate_per_s: float, now_s: float) -> None:
        """Change the rate from now on; saved tokens beyond the new burst are lost."""
        self.has_token(now_s)
        self.rate_per_s = rate_per_s
        self._tokens = min(self._tokens, rate_per_s)


class Scaling:
    """Let a level grow by ``step`` per 10 s: refilled continuously, unused growth is not carried over."""

    __slots__ = ("_room", "_step", "_updated_at_s", "level")

    def __init__(self, step: int) -> None:
        self.level = 0
        self._step = step
        self._room = float(step)
        self._updated_at_s: float | None = None

    def allows(self, level: int, now_s: float) -> bool:
        """Say whether the level may be reached now."""
        if self._updated_at_s is not None and now_s > self._updated_at_s:
            refill = (now_s - self._updated_at_s) * self._step / SCALING_PERIOD_S
            self._room = min(float(self._step), self._room + refill)
        self._updated_at_s = now_s if self._updated_at_s is None else max(now_s, self._updated_at_s)
        return level - self.level <= self._room + 1e-9

    def reach(self, level: int) -> None:
        """Record that the level was reached; a lower one changes nothing."""
        if level > self.level:
            self._room -= level - self.level
            self.level = level
