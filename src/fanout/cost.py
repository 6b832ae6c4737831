"""The cost of a run: from billed times in REPORT lines, else an upper bound from durations."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator
from math import ceil
from pathlib import Path
from typing import Any, Literal

import msgspec

from fanout.errors import ConfigError
from fanout.model import SUPERSEDED, AttemptEnd, InvocationType, Outcome, PlainSums
from fanout.quantities import dollars

DEFAULT_REGION = "us-east-1"
FREE_STORAGE_MB = 512
_RAN = frozenset({"function_error", "ambiguous", "success"})  # verdicts after which something is billed


class Prices(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """US dollars, of one Region."""

    request: float
    gb_s_x86_64: float
    gb_s_arm64: float
    storage_gb_s: float = 0.0


class CostEstimate(msgspec.Struct, frozen=True, kw_only=True):
    """US dollars, and what they rest on. At most one of the two bounds holds; neither: as billed.

    ``usd`` None: not known, for the reason that ``basis`` gives.
    """

    usd: float | None
    is_upper_bound: bool
    is_lower_bound: bool = False
    basis: str

    def __str__(self) -> str:
        if self.usd is None:
            return "not known"
        sign = "at most " if self.is_upper_bound else "at least " if self.is_lower_bound else ""
        return f"{sign}{dollars(self.usd)}"


def load_prices(path: Path | None = None) -> dict[str, Prices]:
    """The table of prices by Region: the one that comes with fanout, or an edited copy of it.

    Raises ConfigError, naming the file, for one that cannot be read or says something else.
    """
    source = path or Path(__file__).with_name("prices.toml")
    try:
        table = tomllib.loads(source.read_text(encoding="utf-8"))
        prices = msgspec.convert(table, dict[str, Prices], strict=False)
    except OSError as error:
        raise ConfigError(f"prices {source}: {error.strerror}: give a TOML file of prices") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise ConfigError(
            f"prices {source}: {error}: give a table like the one in the documentation"
        ) from error
    if path is not None and not prices:
        raise ConfigError(f"prices {source}: no Region in it: give at least one, such as [{DEFAULT_REGION}]")
    return prices


_SUMS = ("memory_mb", "requests", "mb_ms", "ms", "billed", "timed", "unpriced", "unpriced_ms", "left_running")
MOST_MEMORY_MB = 10_240  # the largest function there is


class CostMeter:
    """Adds up what outcomes cost, as they come; ``usd`` can be asked for at any time.

    ``memory_mb``, ``architecture`` and ``storage_mb`` are the function's configuration. Where the
    memory is not known, the first REPORT line tells it; records before that are not charged for
    their time, and the sum is a lower bound. A provisioned function's time costs otherwise: give
    prices for it. ``unpriced`` names what makes all of these prices wrong for the function: its cost is
    not known then.
    """

    def __init__(
        self,
        *,
        region: str | None = None,
        architecture: str = "x86_64",
        memory_mb: int | None = None,
        storage_mb: int = FREE_STORAGE_MB,
        invocation_type: InvocationType = "RequestResponse",
        prices: dict[str, Prices] | None = None,
        unpriced: str | None = None,
    ) -> None:
        self.unpriced = unpriced
        table = load_prices() if prices is None else prices
        region = region or DEFAULT_REGION
        charged_as = (
            region if region in table else DEFAULT_REGION if DEFAULT_REGION in table else next(iter(table))
        )
        self._assumed = "" if charged_as == region else f"; {charged_as} prices assumed for {region}"
        found = table[charged_as]
        self._request_usd = found.request
        self._mb_ms_usd = (found.gb_s_arm64 if architecture == "arm64" else found.gb_s_x86_64) / 1024 / 1000
        self._storage_ms_usd = max(0, storage_mb - FREE_STORAGE_MB) / 1024 / 1000 * found.storage_gb_s
        self._memory_mb = memory_mb or 0
        self._type = invocation_type
        self._requests = 0
        self._mb_ms = 0
        self._ms = 0
        self._billed = self._timed = self._unpriced = self._unpriced_ms = 0
        self._left_running = 0  # attempts of hedged calls that were awaited no longer

    def add(self, outcome: Outcome) -> None:
        """Charge one record: its last attempt, and those before that ran."""
        self.add_many((outcome,))

    def add_many(self, outcomes: Iterable[Outcome]) -> None:
        """Charge records: of each its last attempt, and those before that ran."""
        requests = billed = mb_ms = ms = timed = timed_ms = 0
        for outcome in outcomes:
            if outcome.batch is not None and outcome.batch.index:
                continue  # charged with the first record of its call
            billed_ms = outcome.billed_ms
            memory_mb = outcome.memory_mb or self._memory_mb
            if outcome.status == "succeeded" and billed_ms is not None and memory_mb:
                requests += 1
                billed += 1
                ms += billed_ms
                mb_ms += billed_ms * memory_mb
                self._memory_mb = self._memory_mb or memory_mb
                if outcome.history is not None:
                    self._add_history(outcome.history, with_last=False)
            elif outcome.status == "succeeded" and billed_ms is None and outcome.history is None:
                if outcome.collected_at is None:
                    requests += 1
                    timed += 1
                    timed_ms += ceil(outcome.duration_ms or 0.0)
            else:
                self._add_other(outcome)
        if timed:
            self._timed += timed
            self._charge(timed_ms, self._memory_mb, timed)
        self._requests += requests
        self._billed += billed
        self._ms += ms
        self._mb_ms += mb_ms
        self._price_earlier()

    def add_plain(self, sums: PlainSums) -> None:
        """Charge records that succeeded at once, by their sums."""
        self._requests += sums.billed + sums.unbilled + sums.counts.get("accepted", 0)
        self._billed += sums.billed
        self._timed += sums.unbilled
        self._ms += sums.billed_ms + sums.unbilled_ms
        self._memory_mb = self._memory_mb or sums.memory_mb
        self._mb_ms += sums.billed_mb_ms + sums.unbilled_ms * self._memory_mb
        if not self._memory_mb:
            self._unpriced += sums.unbilled
            self._unpriced_ms += sums.unbilled_ms
        self._price_earlier()

    def _price_earlier(self) -> None:
        """Charge what ran before the memory was known: in which blocks outcomes come makes no difference."""
        if self._memory_mb and self._unpriced:
            self._mb_ms += self._unpriced_ms * self._memory_mb
            self._unpriced = self._unpriced_ms = 0

    def saved(self) -> dict[str, int]:
        """The sums as numbers; ``restore`` takes them into another meter for the same function."""
        return {name: getattr(self, f"_{name}") for name in _SUMS}

    def restore(self, saved: dict[str, int]) -> None:
        """Go on from what ``saved`` returned. Raises KeyError and ValueError for anything else."""
        for name in _SUMS:
            setattr(self, f"_{name}", int(saved[name]))

    def carry_on(self, before: CostMeter) -> None:
        """Take over what another meter has added up."""
        self._requests += before._requests
        self._mb_ms += before._mb_ms
        self._ms += before._ms
        self._billed += before._billed
        self._timed += before._timed
        self._left_running += before._left_running
        if self._memory_mb and not before._memory_mb:  # it is known now
            self._mb_ms += before._unpriced_ms * self._memory_mb
        else:
            self._unpriced += before._unpriced
            self._unpriced_ms += before._unpriced_ms
        self._memory_mb = self._memory_mb or before._memory_mb

    def watch(self, blocks: Iterable[list[Outcome]]) -> Iterator[list[Outcome]]:
        """Pass blocks of outcomes on, charging each."""
        for block in blocks:
            self.add_many(block)
            yield block

    def _add_other(self, outcome: Outcome) -> None:
        """Charge a record that did not succeed, or whose bill is not known."""
        status = outcome.status
        if outcome.collected_at is not None or _is_missing(outcome):
            return  # charged when it was accepted
        if status == "valid" or status == "rejected" or (status == "undelivered" and outcome.history is None):
            return
        if status != "undelivered":
            self._requests += 1
            billed_ms = outcome.billed_ms
            if billed_ms is not None:
                self._billed += 1
                self._memory_mb = self._memory_mb or outcome.memory_mb or 0
                self._charge(billed_ms, outcome.memory_mb or self._memory_mb)
            elif status != "accepted":
                self._timed += 1
                self._charge(ceil(outcome.duration_ms or 0.0), self._memory_mb)
        if outcome.history is not None:
            self._add_history(outcome.history, with_last=status == "undelivered")

    def _add_history(self, history: list[AttemptEnd], *, with_last: bool) -> None:
        for end in history if with_last else history[:-1]:
            if end.verdict in _RAN:
                self._requests += 1
                self._timed += 1
                self._left_running += end.error.startswith(SUPERSEDED)
                self._charge(ceil(end.duration_ms), self._memory_mb)

    def _charge(self, ms: int, memory_mb: int, executions: int = 1) -> None:
        if self._type == "Event":
            return  # the time of a call that hands over is no execution's
        self._ms += ms
        self._mb_ms += ms * memory_mb
        if not memory_mb:
            self._unpriced += executions
            self._unpriced_ms += ms

    @property
    def usd(self) -> float:
        """The cost of the outcomes added so far, in US dollars."""
        return (
            self._requests * self._request_usd
            + self._mb_ms * self._mb_ms_usd
            + self._ms * self._storage_ms_usd
        )

    @property
    def mean_usd(self) -> float | None:
        """The mean cost of an execution so far, in US dollars; None before the first."""
        return self.usd / self._requests if self._requests else None

    def most_usd(self, duration_s: float) -> float:
        """US dollars of one execution of so many seconds; where its memory is not known, of the largest."""
        ms = duration_s * 1000
        mb_ms = ms * (self._memory_mb or MOST_MEMORY_MB)
        return self._request_usd + mb_ms * self._mb_ms_usd + ms * self._storage_ms_usd

    def estimate(self) -> CostEstimate:
        """The sum, with what it rests on in words."""
        if self.unpriced is not None:
            basis = f"the function has {self.unpriced}, which are not charged by the GB-second"
            return CostEstimate(usd=None, is_upper_bound=False, basis=basis)
        bound, basis = self._basis()
        return CostEstimate(
            usd=self.usd,
            is_upper_bound=bound == "upper",
            is_lower_bound=bound == "lower",
            basis=basis + self._assumed,
        )

    def _basis(self) -> tuple[Literal["upper", "lower", "exact"], str]:
        if self._type == "DryRun":
            return "exact", "a dry run executes nothing"
        if self._type == "Event":
            return "lower", "requests only: what accepted events cost when they run is not seen from here"
        if self._unpriced:
            return (
                "lower",
                f"without the time of {self._unpriced:,} executions: their memory size is not known",
            )
        if self._left_running:
            return (
                "lower",
                f"{self._left_running:,} attempts of hedged calls ran on after the other's success",
            )
        if self._timed and self._billed:
            return "upper", f"billed time of {self._billed:,} executions, round-trip time of {self._timed:,}"
        if self._timed:
            return "upper", "round-trip times, which are never shorter than what is billed"
        return "exact", "billed time of every execution"


def _is_missing(outcome: Outcome) -> bool:
    """True if an Event call was accepted, and its result never came."""
    return outcome.error is not None and outcome.error.type == "ResultMissing"


def meter_of(run: dict[str, Any], prices: dict[str, Prices] | None = None) -> CostMeter:
    """The meter for a run as ``run.json`` describes it."""
    options = run.get("options") or {}
    function = run.get("function_configuration") or {}
    memory_mb = function.get("memory_mb")
    return CostMeter(
        region=run.get("region") or options.get("region"),
        architecture=function.get("architecture") or "x86_64",
        memory_mb=memory_mb if isinstance(memory_mb, int) else None,
        storage_mb=function.get("storage_mb") or FREE_STORAGE_MB,
        invocation_type=options.get("invocation_type") or "RequestResponse",
        prices=prices,
        unpriced=function.get("unpriced") or None,
    )
