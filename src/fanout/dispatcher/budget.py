"""A dispatcher's budget: limits, read at the start and every minute, and the transport for them."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Self

import anyio
from msgspec.structs import replace

from fanout.aws import LOCAL_KEYS, AwsSession
from fanout.config import Concurrency, Options, parse_concurrency, parse_leave
from fanout.dispatcher.events import EventLog
from fanout.dispatcher.leave_watch import LeaveWatch
from fanout.errors import ConfigError
from fanout.limit import AdaptiveLimit, ManagedRamp, Ramp, Scaling
from fanout.pacer import Pacer
from fanout.quotas import (
    RECENT_ANSWERS,
    Quotas,
    ScopedAnswers,
    assumed,
    decide,
    discover,
    refusal_before_calls,
    watch,
)
from fanout.transports import Transport, open_transport
from fanout.transports.control import ControlClient
from fanout.transports.open_files import make_room_for
from fanout.transports.signed_http import SignedHttp

if TYPE_CHECKING:
    from fanout.dispatcher.engine import Engine

TIMEOUT_SLACK_S = 15.0  # above the function's own: set-up of an environment, and the way there and back
CONNECTIONS_AT_MOST = 100_000


def check_own_transport(options: Options) -> None:
    """Raise ConfigError for options that need Lambda's limits: a transport of the caller's own has none."""
    if parse_concurrency(options.concurrency).fixed is None:
        raise ConfigError("concurrency must be a number with a transport of your own")
    if options.leave is not None:
        raise ConfigError("leave needs Lambda's limits, and a transport of your own has none")


class Budget:
    """An async context manager over the AWS session, the limits and the transport.

    With a transport of the caller's own there is no session: the concurrency must be a number.
    """

    def __init__(
        self, options: Options, own_transport: Transport | None = None, *, must_ask: bool = False
    ) -> None:
        self._must_ask = must_ask  # Lambda, even where the options say all that limits need
        self._options = options
        self._events = EventLog(options.function)
        self._asked: Concurrency = parse_concurrency(options.concurrency)
        self._own_transport = own_transport
        self._session: AwsSession | None = None
        self._http: SignedHttp | None = None
        self._control: ControlClient | None = None
        self._recent: ScopedAnswers | None = None
        self._leave_watch: LeaveWatch | None = None
        self._is_rereading = False
        self._stack = AsyncExitStack()
        self.quotas: Quotas
        self.limit: AdaptiveLimit
        self.pacer: Pacer
        self.transport: Transport

    async def __aenter__(self) -> Self:
        options = self._options
        async with AsyncExitStack() as stack:
            if self._own_transport is not None:
                check_own_transport(options)
                self.quotas = self._assumed()
            else:
                self._session = await stack.enter_async_context(
                    AwsSession(
                        function=options.function,
                        profile=options.profile,
                        region=options.region,
                        endpoint_url=options.endpoint_url,
                        verify=options.verify,
                        connect_timeout_s=options.connect_timeout,
                        static_credentials=LOCAL_KEYS if options.is_local else None,
                    )
                )
                await self._open_control(stack)
                self.quotas = await self._read_quotas()
            quotas = self.quotas
            refusal = refusal_before_calls(options.function, quotas, invocation_type=options.invocation_type)
            if refusal is not None:
                raise refusal
            self._events.info(
                "limits_read",
                "%s: at most %d calls in flight (%s)",
                options.function,
                quotas.budget,
                quotas.budget_source,
                limit=quotas.budget,
                source=quotas.budget_source,
            )
            if options.leave is not None:
                self._leave_watch = LeaveWatch(
                    parse_leave(options.leave),
                    quotas,
                    invocation_type=options.invocation_type,
                    events=self._events,
                )
            left = self._left
            budget = quotas.budget if left is None else min(quotas.budget, left)
            self.limit = AdaptiveLimit(budget, cause=quotas.cause, ramp=self._scaling(quotas))
            self.pacer = Pacer(self._rate())
            if self._own_transport is not None:
                self.transport = self._own_transport
            else:
                assert self._session is not None
                self.transport = await open_transport(
                    self._session,
                    kind=options.transport,
                    max_connections=self.connections,
                    read_timeout_s=self.read_timeout_s,
                    call_timeout_s=options.timeout,
                    http=self._http if options.transport == "direct" else None,
                )
                stack.push_async_callback(self.transport.aclose)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            await self._stack.aclose()

    @property
    def region(self) -> str | None:
        """The Region that calls go to; None with a transport of the caller's own."""
        return None if self._session is None else self._session.region

    @property
    def connections(self) -> int:
        """The connections that the transport keeps: one for each call in flight."""
        return min(max(self.quotas.budget, 16), CONNECTIONS_AT_MOST)

    @property
    def read_timeout_s(self) -> float:
        """The longest silence of a call: the function's own timeout plus slack."""
        return self.quotas.function_timeout_s + TIMEOUT_SLACK_S

    @property
    def call_timeout_s(self) -> float:
        """The longest time before a call ends for the client: the option, at the most ``read_timeout_s``."""
        return min(self._options.timeout or self.read_timeout_s, self.read_timeout_s)

    @property
    def linger_s(self) -> float:
        """Seconds from its sending for which a lost call may still run; 0 unless it is synchronous."""
        if self._options.invocation_type != "RequestResponse":
            return 0.0
        return self.quotas.function_timeout_s

    async def reread_credentials(self) -> None:
        """Look for credentials again where they came from, as those in use are refused."""
        if self._session is None or self._is_rereading:
            return
        self._is_rereading = True
        try:
            await self._session.reread_credentials()
        finally:
            self._is_rereading = False

    async def watch(self, engine: Engine) -> None:
        """Read the limits again every minute, and a ``@FILE`` every second, until cancelled."""
        if self._control is None:
            return

        def on_change(quotas: Quotas) -> None:
            self._events.info(
                "limits_changed",
                "%s: the limit is %d now, was %d (%s)",
                self._options.function,
                quotas.budget,
                self.quotas.budget,
                quotas.budget_source,
                limit=quotas.budget,
                source=quotas.budget_source,
            )
            self.quotas = quotas
            self._apply(engine)
            self.pacer.set_rate(self._rate())
            self.transport.set_read_timeout(self.read_timeout_s)
            engine.set_linger(self.linger_s)
            engine.pump()

        async with anyio.create_task_group() as group:
            if self._leave_watch is not None and self._left is not None:
                assert self._session is not None
                keep = partial(
                    self._leave_watch.keep,
                    self._session,
                    own_calls=lambda: self.own_calls(engine),
                    account=lambda: self.quotas.account,
                    on_read=lambda: self._apply(engine),
                )
                group.start_soon(keep)
            await self._watch_limits(on_change)
            group.cancel_scope.cancel()

    async def _watch_limits(self, on_change: Callable[[Quotas], None]) -> None:
        options = self._options
        assert self._control is not None
        await watch(
            self._control,
            self.quotas,
            function=options.function,
            qualifier=options.qualifier,
            concurrency=lambda: self._asked,
            invocation_type=options.invocation_type,
            function_timeout_s=options.function_timeout,
            on_change=on_change,
            recent=self._recent,
        )

    def tune(
        self, engine: Engine, *, concurrency: int | str | None = None, rate: float | None = None
    ) -> None:
        """Another concurrency or rate, from now on. Raises ConfigError for values that are wrong."""
        options = self._options
        options = replace(
            options,
            concurrency=options.concurrency if concurrency is None else concurrency,
            rate=options.rate if rate is None else rate,
        )
        asked = parse_concurrency(options.concurrency)
        if concurrency is not None and asked.file is not None:
            raise ConfigError(f"concurrency is {concurrency!r}: give a number, a share or auto")
        if self._own_transport is not None:
            check_own_transport(options)
        self._options, self._asked = options, asked
        if concurrency is not None:
            replies = self.quotas.replies
            if self._control is None or replies is None:
                self.quotas = self._assumed()
            else:
                self.quotas = decide(
                    replies,
                    asked,
                    invocation_type=options.invocation_type,
                    asked_by="fanout tune",
                    function_timeout_s=options.function_timeout,
                )
            make_room_for(self.connections)
            resize = getattr(self.transport, "set_max_connections", None)  # direct has it
            if resize is not None:
                resize(self.connections)
            self._apply(engine)
        self.pacer.set_rate(self._rate())
        engine.pump()

    def _apply(self, engine: Engine) -> None:
        """The budget, or what is left of the account where that is less."""
        budget, cause = self.quotas.budget, self.quotas.cause
        left = self._left
        if left is not None and left < budget:
            budget, cause = left, "left"
        # A function switched off while it is called (reserved 0) is asked one call at a time: its
        # throttles use the patience up, and say why.
        self.limit.set_budget(max(1, budget), engine.clock(), cause)
        engine.pump()

    @property
    def _left(self) -> int | None:
        """The calls at once that are left of the account; None where nothing is to be left."""
        return None if self._leave_watch is None else self._leave_watch.ceiling

    def own_calls(self, engine: Engine) -> int:
        """Calls of this client that run, or may run on."""
        return engine.gate.in_flight + engine.gate.lingering_at(engine.clock())[0]

    def bounds(self) -> list[str]:
        """The reasons why concurrency or rate is less than was asked for, in words; empty where it is not."""
        quotas, asked = self.quotas, self._options.rate
        bounds = [f"concurrency: {quotas.budget_source}"] if quotas.is_above_allowed else []
        allowed = quotas.rate_per_s
        if asked is not None and allowed is not None and quotas.is_rate_read and asked > allowed:
            bounds.append(
                f"rate: {asked:,g}, bounded by the {allowed:,g} that Lambda allows ({quotas.rate_source})"
            )
        return bounds

    def _rate(self) -> float | None:
        """The user's rate, bounded by one that was read; else what was read or assumed."""
        asked, allowed = self._options.rate, self.quotas.rate_per_s
        if asked is None or allowed is None:
            return allowed if asked is None else asked
        return min(asked, allowed) if self.quotas.is_rate_read else asked

    def _scaling(self, quotas: Quotas) -> Scaling | None:
        if self._options.invocation_type != "RequestResponse":
            return None
        if quotas.is_managed:
            return ManagedRamp(quotas.managed_start)
        return Ramp(quotas.provisioned or 0)

    @property
    def _asks_nothing(self) -> bool:
        """True if the options say whatever Lambda would be asked."""
        options = self._options
        if self._must_ask:
            return False
        if options.leave is not None:
            return False
        return self._asked.fixed is not None and options.rate is not None and options.timeout is not None

    async def _open_control(self, stack: AsyncExitStack) -> None:
        """Open what reads the limits, unless nothing is asked; ``direct`` goes on with its connections."""
        assert self._session is not None
        if self._asks_nothing and self._options.transport == "sdk":
            return
        self._http = http = await SignedHttp.open(self._session)
        stack.push_async_callback(http.aclose)
        if not self._asks_nothing:
            self._control = ControlClient(http)
            identity = (await http.credentials(time.time())).access_key
            self._recent = RECENT_ANSWERS.scoped(http.endpoint, identity)

    def _assumed(self) -> Quotas:
        return assumed(
            self._asked,
            invocation_type=self._options.invocation_type,
            function_timeout_s=self._options.function_timeout,
        )

    async def _read_quotas(self) -> Quotas:
        options = self._options
        if self._control is None:
            return self._assumed()
        return await discover(
            self._control,
            function=options.function,
            qualifier=options.qualifier,
            concurrency=self._asked,
            invocation_type=options.invocation_type,
            function_timeout_s=options.function_timeout,
            recent=self._recent,
        )
