"""Leases of one budget: their sum holds, whatever happens to workers and messages (virtual time)."""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fanout.limit import AdaptiveLimit
from fanout.model import ThrottleKind
from fanout.pacer import Pacer
from fanout.workers.adaptation import adapt
from fanout.workers.lease_book import LeaseBook
from fanout.workers.leased_limit import LeasedLimit, LeasedPacer
from fanout.workers.messages import Lease, Report, Throttle
from fanout.workers.shares import fair_counts, fair_shares
from fanout.workers.windows import LEAST, Window

TICK_S = 0.05
ORDER_S = 0.1


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 500), st.lists(st.integers(0, 300), max_size=20), st.sets(st.integers(0, 19)))
def test_shares_add_up_and_are_fair(total: int, demands: list[int], at_work: set[int]) -> None:
    """Nobody has less than another while it could use more; nothing is left over."""
    counts = fair_counts(total, demands, at_work)
    assert sum(counts) == (total if demands else 0)
    for mine, wanted in zip(counts, demands, strict=True):
        if mine < wanted:
            assert all(other <= mine + 1 for other in counts)
    shares = fair_shares(float(total), [float(each) for each in demands])
    assert sum(shares) == pytest.approx(total if demands else 0)


class SimulatedWorker:
    """Keeps its permits full with calls of ``call_s``, as long as its lease lasts and it has work."""

    def __init__(self, call_s: float, now_s: float) -> None:
        self.limit = LeasedLimit()
        self.limit.ask(now_s)
        self.call_s = call_s
        self.ends: list[float] = []
        self.is_alive = True
        self.stopped_until_s = 0.0
        self.next_order_s = now_s
        self.pending: tuple[float, Lease] | None = None  # a lease on its way, and when it arrives
        self.has_work = True
        self.started = 0

    def work(self, now_s: float) -> None:
        """Start what the lease allows."""
        if not self.is_alive or now_s < self.stopped_until_s:
            return
        while self.has_work and len(self.ends) < self.limit.ceiling(now_s):
            heapq.heappush(self.ends, now_s + self.call_s)
            self.started += 1
        self.limit.noted.is_full = self.has_work

    def report(self, now_s: float) -> Report:
        held = LEAST if self.has_work else 0
        report = Report(
            number=0,
            in_flight=len(self.ends),
            held=held,
            started=self.started,
            is_full=self.limit.noted.is_full,
        )
        self.started = 0
        self.limit.noted.is_full = False
        self.limit.ask(now_s)
        return report


class Simulation:
    """A coordinator and its workers. The server counts every call that runs, also those of the dead."""

    def __init__(self, rng: random.Random, *, workers: int, ceiling: int, linger_s: float) -> None:
        self.rng = rng
        self.now_s = 100.0
        self.book = LeaseBook(linger_s=linger_s)
        self.ceiling = ceiling
        self.linger_s = linger_s
        self.delays_s = [0.0, 0.0, 0.0, 0.3, 1.5]
        self.workers: dict[str, SimulatedWorker] = {}
        self.lost: set[str] = set()
        self.count = 0
        for _ in range(workers):
            self.join()

    def join(self) -> None:
        self.count += 1
        name = str(self.count)
        self.workers[name] = SimulatedWorker(self.rng.uniform(0.02, self.linger_s), self.now_s)
        self.book.join(name)

    def leave(self, name: str) -> None:
        """In order: what it had running has ended."""
        worker = self.workers.pop(name)
        worker.ends.clear()
        self.book.leave(name)

    def running(self) -> int:
        total = 0
        for worker in self.workers.values():
            while worker.ends and worker.ends[0] <= self.now_s:
                heapq.heappop(worker.ends)
            total += len(worker.ends)
        return total

    def step(self) -> None:
        """One tick: answers come, orders go, calls start."""
        self.now_s += TICK_S
        self.running()
        for name, worker in self.workers.items():
            if name in self.lost:
                worker.work(self.now_s)
                continue
            is_reached = worker.is_alive and self.now_s >= worker.stopped_until_s
            if worker.pending is not None and self.now_s >= worker.pending[0]:
                if is_reached:
                    worker.limit.take(worker.pending[1], self.now_s)
                    worker.pending = None
                    worker.work(self.now_s)
                    self.book.answered(name, worker.report(self.now_s), elapsed_s=ORDER_S, wanted=LEAST)
                elif not worker.is_alive:
                    self.book.lose(name)
                    self.lost.add(name)
            worker.work(self.now_s)
            if name not in self.lost and worker.pending is None and self.now_s >= worker.next_order_s:
                worker.next_order_s = self.now_s + ORDER_S
                lease = self.book.lease(name, self.ceiling, None, self.now_s)
                delay_s = self.rng.choice(self.delays_s)
                worker.pending = (self.now_s + delay_s, lease)

    def events(self) -> Iterator[str]:
        while True:
            yield self.rng.choice(["join", "kill", "stop", "idle", "ceiling", "none", "none"])

    def disturb(self, event: str) -> None:
        alive = [name for name, worker in self.workers.items() if worker.is_alive]
        if event == "join":
            self.join()
        elif event == "ceiling":
            self.ceiling = self.rng.randint(1, 300)
        elif alive:
            worker = self.workers[self.rng.choice(alive)]
            if event == "kill":
                worker.is_alive = False
            elif event == "stop":
                worker.stopped_until_s = self.now_s + self.rng.uniform(0.1, 4.0)
            elif event == "idle":
                worker.has_work = not worker.has_work


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32))
def test_the_sum_never_exceeds_the_budget(seed: int) -> None:
    """Joining, killed, stopped and continued workers, slow messages, a budget that changes.

    After a cut calls in flight end first: until then what runs may only fall.
    """
    simulation = Simulation(random.Random(seed), workers=8, ceiling=100, linger_s=0.8)
    before = 0
    for number, event in zip(range(200), simulation.events(), strict=False):
        if number % 3 == 0:
            simulation.disturb(event)
        ceiling = simulation.ceiling
        committed = simulation.book.committed(simulation.now_s)
        simulation.step()
        running = simulation.running()
        assert running <= max(ceiling, committed, before)
        assert simulation.book.committed(simulation.now_s) <= max(ceiling, committed)
        before = running


@pytest.mark.parametrize("slowest_s", [pytest.param(0.1, marks=pytest.mark.slow), 0.4])
def test_a_hundred_workers_share_and_none_starves(slowest_s: float) -> None:
    """Each has its share within two seconds, the dead ones' too, and a budget of all is in use.

    Over links of which some are slow; three are killed, five join, four leave, and two stand still for 3 s.
    """
    simulation = Simulation(random.Random(1), workers=100, ceiling=1000, linger_s=0.5)
    simulation.delays_s = [0.0, 0.1, slowest_s]
    for _ in range(60):
        simulation.step()
        assert simulation.running() <= 1000
    for name in ("1", "2", "3"):
        simulation.workers[name].is_alive = False
    for name in ("4", "5"):
        simulation.workers[name].stopped_until_s = simulation.now_s + 3.0
    for name in ("6", "7", "8", "9"):
        simulation.leave(name)
    for _ in range(5):
        simulation.join()
    starved: dict[str, float] = {}
    for _ in range(160):
        simulation.step()
        running = simulation.running()
        assert running <= 1000
        for name, worker in simulation.workers.items():
            is_at_work = worker.is_alive and simulation.now_s >= worker.stopped_until_s
            if is_at_work and not worker.ends and running < 1000 and name not in simulation.lost:
                starved.setdefault(name, simulation.now_s)
                assert simulation.now_s - starved[name] <= 2.0
            else:
                starved.pop(name, None)
    assert simulation.running() > 850


def test_a_worker_that_was_stopped_past_its_lease_starts_nothing() -> None:
    """The lease counts from when it asked, whenever the answer arrives."""
    limit = LeasedLimit()
    limit.ask(10.0)
    limit.take(Lease(5, None, 1.0), 10.1)
    assert limit.ceiling(10.9) == 5
    assert limit.ceiling(11.0) == 0
    limit.take(Lease(5, None, 1.0), 14.0)  # it was on its way while the worker stood still
    assert limit.ceiling(14.0) == 0


def test_a_dead_workers_share_lingers_until_its_calls_must_have_ended() -> None:
    """Lease, then the function's timeout; only then do others get it."""
    book = LeaseBook(linger_s=30.0)
    book.join("a")
    book.join("b")
    book.lease("a", 10, None, 100.0)
    book.answered("a", Report(number=1, in_flight=5, held=50, is_full=True), elapsed_s=0.1, wanted=16)
    book.lose("a")
    held = 10 - book.lease("b", 10, None, 130.9).permits
    assert held == 5
    assert book.lease("b", 10, None, 131.0).permits == 10


@pytest.mark.parametrize(
    "report", [Report(number=1, held=10, is_full=True), Report(number=1)], ids=["held", "repeated later"]
)
def test_the_odd_permit_goes_to_a_worker_that_has_records(report: Report) -> None:
    """One that only could have some is served after it: there may be none for it until these are done."""
    book = LeaseBook()
    for now_s in (100.0, 100.1, 100.2):
        for name in ("a", "b"):
            if now_s == 100.0:
                book.join(name)
            lease = book.lease(name, 4 if now_s == 100.0 else 1, None, now_s)
            has_records = name == "b"
            said = report if has_records else Report(number=1)
            book.answered(name, said, elapsed_s=0.1, wanted=0 if has_records else 16, out=10 * has_records)
    assert lease.permits == 1


def test_the_rate_goes_to_workers_that_have_permits() -> None:
    """One without any can start nothing, whatever it could have."""
    book = LeaseBook()
    for now_s in (100.0, 100.1, 100.2):
        for name in ("a", "b", "c"):
            if now_s == 100.0:
                book.join(name)
            lease = book.lease(name, 1, 5.0, now_s)
            report = Report(number=1, held=10, is_paced=name == "a")
            book.answered(name, report, elapsed_s=0.1, wanted=16, out=10)
            assert book.rate_committed(now_s) <= 5.0
    assert (lease.permits, lease.rate_per_s) == (0, 0.0)
    assert book.lease("a", 1, 5.0, 100.3) == Lease(1, 5.0, 1.0)


def test_throttles_of_one_cut_say_nothing_new() -> None:
    """Calls that were sent before the lease after a cut arrived belong to that cut."""
    limit = LeasedLimit()
    limit.ask(1.0)
    limit.take(Lease(10, None, 1.0, cuts=0), 1.0)
    limit.on_throttle(ThrottleKind.CONCURRENCY, 1.1, 1.2, None, 7)
    assert limit.ceiling(1.2) == 7
    assert [each.kind for each in limit.noted.throttles] == ["concurrency"]
    limit.take_noted()
    limit.take(Lease(6, None, 1.0, cuts=1), 1.3)
    limit.on_throttle(ThrottleKind.CONCURRENCY, 1.25, 1.4, None, 3)
    assert limit.noted.throttles == []
    assert limit.ceiling(1.4) == 6


def test_a_throttle_of_the_rate_is_noted_and_waited_for() -> None:
    """The pacer's affair: no permit is lost by it. Without Retry-After the coordinator alone slows down."""
    limit = LeasedLimit()
    pacer = LeasedPacer(limit)
    limit.ask(1.0)
    limit.take(Lease(10, None, 5.0), 1.0)
    pacer.lease(None)
    pacer.on_throttle(1.2, None, 1.1)
    assert pacer.try_take()
    pacer.on_throttle(1.3, 2.0)
    assert not pacer.try_take()
    assert (limit.ceiling(1.4), limit.noted.is_paced) == (10, True)
    assert limit.noted.throttles == [Throttle("rate")]


@pytest.mark.looptime
async def test_the_coordinator_slows_down_by_what_a_worker_noted() -> None:
    """Once for each lease; the limit of calls at once stays."""
    limit, pacer, book = AdaptiveLimit(20), Pacer(100.0), LeaseBook()
    report = Report(1, throttles=[Throttle("rate", 2.0)])
    adapt(report, limit, pacer, book, in_use=5, now_s=1.0)
    slower = pacer.rate_now
    adapt(report, limit, pacer, book, in_use=5, now_s=9.0)
    assert slower is not None
    assert slower < 100.0
    assert (pacer.rate_now, limit.ceiling(9.0), book.cuts) == (slower, 20, 1)


def test_a_window_follows_the_rate() -> None:
    """0.2 s of the rate, at least 16, and nothing for a worker without a permit."""
    window = Window()
    assert window.room(0, 5) == LEAST
    assert window.room(10, 5) == 6
    assert window.room(0, 0) == 0
    window.note(500, 0.1)
    assert window.room(0, 5) == 1000


def test_a_window_is_of_whole_batches() -> None:
    """One at the least, and what waits for its batch to fill is filled up."""
    window = Window(100)
    assert window.room(0, 5) == 100
    assert window.room(40, 5, forming=30) == 130
    assert window.room(100, 5, forming=30) == 0
    window.note(500, 0.1)
    assert window.room(0, 5, forming=99) == 1001


def test_a_window_outlasts_slow_orders() -> None:
    """Where half a second passes between two, a window of 0.2 s would shrink with each to the least."""
    window = Window()
    for _ in range(12):
        window.note(window.records, 0.5)  # it had started them all
    assert window.records > 500
    grown = window.records
    window.note(0, 0.5)
    assert window.records == grown // 2
    window = Window()
    window.note(1000, 5.0)  # it stood still: no more than a second's
    assert window.records == 200
