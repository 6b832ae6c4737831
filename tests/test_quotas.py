"""What the account allows: replies of three APIs in, a budget and its reasons out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.config import Concurrency
from fanout.errors import ConfigError
from fanout.function_name import split_qualifier
from fanout.model import InvocationType
from fanout.quotas import ConcurrencyFile, Quotas, assumed, discover, watch
from fanout.quotas.decide import CLIENT_WIDTH, decide
from fanout.quotas.replies import Replies

AUTO = Concurrency()
FUNCTION = {
    "Configuration": {
        "Timeout": 30,
        "MemorySize": 512,
        "Architectures": ["arm64"],
        "EphemeralStorage": {"Size": 1024},
        "State": "Active",
    }
}
RESERVED = FUNCTION | {"Concurrency": {"ReservedConcurrentExecutions": 50}}
ACCOUNT = {"AccountLimit": {"ConcurrentExecutions": 1_000, "UnreservedConcurrentExecutions": 900}}


class ApiError(Exception):
    """Shaped like ``ControlRefusal``."""

    def __init__(self, code: str, status: int = 400) -> None:
        super().__init__(code)
        self.code = code
        self.http_status = status


class Api:
    """The limit-reading API. A reply may be an exception, or seconds."""

    def __init__(
        self, function: Any = FUNCTION, account: Any = ACCOUNT, provisioned: Any = None, scaling: Any = None
    ) -> None:
        self.replies = {
            "function": function,
            "account": account,
            "provisioned": provisioned or {},
            "scaling": scaling or {},
        }
        self.asked: list[tuple[str, str, dict[str, str]]] = []

    async def get(self, path: str, query: Mapping[str, str] | None = None) -> Any:
        which = next((which for part, which in PATHS.items() if part in path), "function")
        name = path.split("/")[3] if "/functions/" in path else ""
        self.asked.append((which, name, dict(query or {})))
        await asyncio.sleep(0.05)
        reply = self.replies[which]
        if isinstance(reply, Exception):
            raise reply
        if isinstance(reply, float):
            await asyncio.sleep(reply)
        return reply


PATHS = {
    "account-settings": "account",
    "provisioned-concurrency": "provisioned",
    "function-scaling-config": "scaling",
}


async def ask(
    api: Api,
    concurrency: Concurrency = AUTO,
    function: str = "f",
    qualifier: str | None = None,
    invocation_type: InvocationType = "RequestResponse",
) -> Quotas:
    return await discover(
        api, function=function, qualifier=qualifier, concurrency=concurrency, invocation_type=invocation_type
    )


def source_of(quotas: Quotas, name: str) -> str:
    return next(figure.source for figure in quotas.figures if figure.name == name)


@pytest.mark.looptime
async def test_reserved_concurrency_is_the_budget() -> None:
    """All of it, and ten requests a second for each."""
    quotas = await ask(Api(RESERVED))
    assert (quotas.budget, quotas.cause, quotas.rate_per_s) == (50, "reserved", 500.0)
    assert (quotas.function_timeout_s, quotas.memory_mb, quotas.architecture) == (30.0, 512, "arm64")
    assert (quotas.ephemeral_mb, quotas.state, quotas.account, quotas.unreserved) == (
        1024,
        "Active",
        1000,
        900,
    )
    assert source_of(quotas, "reserved concurrency") == "GetFunction"


@pytest.mark.looptime
async def test_without_a_reservation_it_is_four_fifths_of_the_pool() -> None:
    """The pool is every function's: some of it is left to the others."""
    quotas = await ask(Api())
    assert (quotas.budget, quotas.cause, quotas.rate_per_s) == (720, "account", 10_000.0)
    assert source_of(quotas, "reserved concurrency") == "GetFunction: none"


@pytest.mark.looptime
@pytest.mark.parametrize(("function", "qualifier"), [("f", "live"), ("f:live", None)])
async def test_provisioned_concurrency_counts_where_a_qualifier_names_it(
    function: str, qualifier: str | None
) -> None:
    """It is asked for with the qualifier, given apart or in the name."""
    api = Api(RESERVED, provisioned={"AllocatedProvisionedConcurrentExecutions": 20})
    quotas = await ask(api, function=function, qualifier=qualifier)
    assert (quotas.budget, quotas.cause, quotas.rate_per_s) == (20, "provisioned", 200.0)
    assert ("provisioned", "f", {"Qualifier": "live"}) in api.asked


@pytest.mark.looptime
async def test_without_a_qualifier_provisioned_concurrency_is_not_asked_for() -> None:
    """Lambda would refuse the question."""
    for qualifier in (None, "$LATEST"):
        api = Api()
        await ask(api, qualifier=qualifier)
        assert {which for which, _, _ in api.asked} == {"function", "account"}


@pytest.mark.looptime
async def test_a_qualifier_without_provisioned_concurrency_has_none() -> None:
    """Lambda's NotFound is an answer, not a fault."""
    api = Api(RESERVED, provisioned=ApiError("ProvisionedConcurrencyConfigNotFoundException", 404))
    quotas = await ask(api, qualifier="live")
    assert (quotas.budget, quotas.cause) == (50, "reserved")
    assert source_of(quotas, "provisioned concurrency") == "GetProvisionedConcurrencyConfig: none"


@pytest.mark.looptime
async def test_all_apis_are_asked_at_once() -> None:
    """One round trip's time, not three."""
    loop = asyncio.get_running_loop()
    start_s = loop.time()
    await ask(Api(), qualifier="live")
    assert loop.time() - start_s == pytest.approx(0.05, abs=0.001)


@pytest.mark.looptime
async def test_a_slow_api_is_not_waited_for() -> None:
    """Three seconds, then an assumption that says so."""
    loop = asyncio.get_running_loop()
    start_s = loop.time()
    quotas = await ask(Api(account=60.0))
    assert loop.time() - start_s == pytest.approx(3.0, abs=0.01)
    assert (quotas.budget, quotas.cause) == (800, "assumed")
    assert "no answer to GetAccountSettings within 3 s" in quotas.budget_source


@pytest.mark.looptime
async def test_denied_apis_give_a_stated_assumption() -> None:
    """Never a crash: the budget is low enough for a new account's limit to be found by probing."""
    denied = ApiError("AccessDeniedException", 403)
    quotas = await ask(Api(denied, denied, denied), qualifier="live")
    assert (quotas.budget, quotas.is_assumed, quotas.rate_per_s) == (800, True, 10_000.0)
    assert "AccessDenied for GetAccountSettings" in quotas.budget_source
    assert source_of(quotas, "timeout (s)") == "assumed 900: AccessDenied for GetFunction"
    assert quotas.function_timeout_s == 900.0
    assert not quotas.function_missing
    assert quotas.refusal is None


@pytest.mark.looptime
async def test_a_pool_alone_does_not_say_that_nothing_is_reserved() -> None:
    """With GetFunction denied, a reservation may be lower: the budget is assumed."""
    quotas = await ask(Api(ApiError("AccessDeniedException", 403)))
    assert (quotas.budget, quotas.cause) == (720, "assumed")


@pytest.mark.looptime
async def test_an_api_that_does_not_exist_is_named_by_its_status() -> None:
    """An emulator of AWS without GetAccountSettings answers 404 with a page."""
    quotas = await ask(Api(account=ApiError("HTTP 404", 404)))
    assert "HTTP 404 for GetAccountSettings" in quotas.budget_source


@pytest.mark.looptime
async def test_a_missing_function_is_told_apart() -> None:
    """The caller decides what to do; nothing is raised."""
    quotas = await ask(Api(ApiError("ResourceNotFoundException", 404)))
    assert quotas.function_missing


@pytest.mark.looptime
async def test_refused_credentials_are_told_in_a_line() -> None:
    """They would refuse every call."""
    expired = ApiError("ExpiredTokenException", 403)
    assert (await ask(Api(expired, expired))).refusal == "credentials were refused: ExpiredTokenException"


@pytest.mark.looptime
async def test_reserved_zero_is_told_as_such() -> None:
    """A function that is switched off is no unknown."""
    quotas = await ask(Api(FUNCTION | {"Concurrency": {"ReservedConcurrentExecutions": 0}}))
    assert (quotas.reserved, quotas.budget) == (0, 0)
    assert "Lambda throttles every call" in quotas.budget_source


def test_a_number_is_bounded_by_what_was_read_and_never_by_what_is_assumed() -> None:
    """The user's word beats a guess, and not what Lambda says; where it was bounded, that is shown."""
    quotas = decide(Replies(RESERVED, ACCOUNT), Concurrency(fixed=80))
    assert (quotas.budget, quotas.cause, quotas.allowed) == (50, "fixed", 50)
    assert quotas.is_above_allowed
    assert "bounded by the 50 that Lambda allows (reserved" in quotas.budget_source
    assert not decide(Replies(RESERVED, ACCOUNT), Concurrency(fixed=50)).is_above_allowed
    denied = decide(Replies("denied", "denied"), Concurrency(fixed=5_000))
    assert (denied.budget, denied.is_above_allowed) == (5_000, False)
    # Auto leaves a fifth of the pool to others; a number may take all of it, and no more.
    assert decide(Replies(FUNCTION, ACCOUNT), Concurrency(fixed=850)).budget == 850
    assert decide(Replies(FUNCTION, ACCOUNT), Concurrency(fixed=2_000)).budget == 900
    # Without GetFunction a reservation may be above the pool, but nothing is above the account.
    assert decide(Replies("denied", ACCOUNT), Concurrency(fixed=2_000)).budget == 1_000


def test_which_rates_were_read_is_known() -> None:
    """One that was assumed must not bound a rate that the user gave."""
    assert decide(Replies(RESERVED, ACCOUNT), AUTO).is_rate_read
    assert not decide(Replies(FUNCTION, "denied"), AUTO).is_rate_read


def test_a_share_is_of_the_discovered_budget() -> None:
    """Half of 50 is 25, and never nothing of something."""
    half = decide(Replies(RESERVED, ACCOUNT), Concurrency(percent=50))
    assert (half.budget, half.cause) == (25, "reserved")
    assert decide(Replies(RESERVED, ACCOUNT), Concurrency(percent=0.1)).budget == 1


@pytest.mark.parametrize("invocation_type", ["Event", "DryRun"])
def test_lambda_bounds_neither_events_nor_dry_runs(invocation_type: InvocationType) -> None:
    """A width of the client's own, and no rate."""
    quotas = decide(Replies(RESERVED, ACCOUNT), AUTO, invocation_type=invocation_type)
    assert (quotas.budget, quotas.cause, quotas.rate_per_s) == (CLIENT_WIDTH, "width", None)
    fixed = decide(Replies(RESERVED, ACCOUNT), Concurrency(fixed=500), invocation_type=invocation_type)
    assert (fixed.budget, fixed.is_above_allowed) == (500, False)


def test_where_nobody_can_be_asked_no_rate_is_bound() -> None:
    """A transport of the caller's own has limits that only the caller knows."""
    quotas = assumed(Concurrency(fixed=7))
    assert (quotas.budget, quotas.cause, quotas.rate_per_s) == (7, "fixed", None)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["Configuration", "Concurrency", "AccountLimit", "Timeout", "EphemeralStorage"])
            | st.sampled_from(
                ["ReservedConcurrentExecutions", "ConcurrentExecutions", "Architectures", "Size"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


@given(JSON, JSON, JSON, st.sampled_from([AUTO, Concurrency(fixed=3), Concurrency(percent=10)]))
def test_garbage_is_never_an_exception(
    function: Any, account: Any, provisioned: Any, asked: Concurrency
) -> None:
    """Whatever an API answers, there is a budget, a timeout and a source for each figure."""
    replies = [reply if isinstance(reply, (dict, str)) else {} for reply in (function, account, provisioned)]
    quotas = decide(Replies(replies[0], replies[1], replies[2]), asked)
    assert quotas.budget >= 0
    assert quotas.function_timeout_s > 0
    assert all(figure.source for figure in quotas.figures)


@pytest.mark.parametrize(
    ("function", "name", "qualifier"),
    [
        ("f", "f", None),
        ("f:live", "f", "live"),
        ("f:$LATEST", "f", "$LATEST"),
        ("123456789012:function:f", "123456789012:function:f", None),
        ("123456789012:function:f:2", "123456789012:function:f", "2"),
        (
            "arn:aws:lambda:eu-west-1:123456789012:function:f",
            "arn:aws:lambda:eu-west-1:123456789012:function:f",
            None,
        ),
        (
            "arn:aws-us-gov:lambda:us-gov-west-1:123456789012:function:f:live",
            "arn:aws-us-gov:lambda:us-gov-west-1:123456789012:function:f",
            "live",
        ),
    ],
)
def test_a_qualifier_is_found_in_every_form_of_a_name(
    function: str, name: str, qualifier: str | None
) -> None:
    """Names, partial ARNs and ARNs; one given apart wins."""
    assert split_qualifier(function, None) == (name, qualifier)
    assert split_qualifier(function, "apart") == (name, "apart")


def void(_: object) -> None:
    """Make a statement of an expression."""


async def watching(
    api: Api, quotas: Quotas, concurrency: Concurrency, seconds: float, then: Callable[[], None]
) -> list[Quotas]:
    """Watch for a while; ``then`` happens after 10 s."""
    changes: list[Quotas] = []
    task = asyncio.create_task(
        watch(api, quotas, function="f", concurrency=lambda: concurrency, on_change=changes.append)
    )
    await asyncio.sleep(10.0)
    then()
    await asyncio.sleep(seconds - 10.0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return changes


@pytest.mark.looptime
async def test_limits_are_read_again_every_minute_and_told_when_they_differ() -> None:
    """A long run follows a limit that was changed under it, and hears nothing otherwise."""
    api = Api(RESERVED)
    quotas = await ask(api)
    raised = FUNCTION | {"Concurrency": {"ReservedConcurrentExecutions": 80}}
    changes = await watching(api, quotas, AUTO, 300.0, lambda: api.replies.update(function=raised))
    assert [change.budget for change in changes] == [80]
    assert len(api.asked) == 2 * 5


@pytest.mark.looptime
async def test_an_api_that_fails_later_keeps_its_last_good_reply() -> None:
    """A hiccup of the control plane does not turn a known limit into a guess."""
    api = Api(RESERVED)
    quotas = await ask(api)
    denied = ApiError("TooManyRequestsException", 429)
    changes = await watching(
        api, quotas, AUTO, 200.0, lambda: api.replies.update(function=denied, account=denied)
    )
    assert changes == []


@pytest.mark.looptime
async def test_a_file_turns_a_run_up_and_down(tmp_path: Path) -> None:
    """Read every second; the account is still asked every minute only."""
    file = tmp_path / "concurrency"
    file.write_text("20\n")
    api, asked = Api(RESERVED), Concurrency(file=str(file))
    quotas = await ask(api, asked)
    assert (quotas.budget, quotas.cause) == (20, "fixed")
    assert str(file) in quotas.budget_source
    changes = await watching(api, quotas, asked, 20.0, lambda: void(file.write_text("50%")))
    assert [change.budget for change in changes] == [25]
    assert len(api.asked) == 2


def test_a_file_is_read_once_a_second_at_most(tmp_path: Path) -> None:
    """Asking more often costs nothing."""
    path = tmp_path / "concurrency"
    path.write_text("20")
    file = ConcurrencyFile(str(path))
    numbers = []
    for now_s in (0.0, 0.9, 1.0):
        numbers.append(file.read(now_s).fixed)
        path.write_text("30")
    assert numbers == [20, 20, 30]


@pytest.mark.parametrize("contents", ["", "many", "0", "-3", "@other", "5" * 200, "\udcff"])
def test_bad_contents_keep_the_last_good_number_and_are_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, contents: str
) -> None:
    """An editor that empties the file first does not stop the run."""
    path = tmp_path / "concurrency"
    path.write_text("20")
    file = ConcurrencyFile(str(path))
    file.read(0.0)
    path.write_bytes(contents.encode(errors="surrogateescape"))
    with caplog.at_level(logging.WARNING):
        assert [file.read(float(now_s)).fixed for now_s in range(1, 9)] == [20] * 8
    assert len(caplog.records) == 1
    assert str(path) in caplog.text


def test_a_file_that_never_said_anything_is_a_setting_gone_wrong(tmp_path: Path) -> None:
    """At the start there is no last good number."""
    with pytest.raises(ConfigError, match="whole number from 1"):
        ConcurrencyFile(str(tmp_path / "missing")).read(0.0)


@pytest.mark.parametrize(("execution_s", "expected_s"), [(120, 120.0), (86_400, 900.0), (None, 900.0)])
def test_a_call_of_a_durable_function_lasts_as_long_as_its_execution(
    execution_s: int | None, expected_s: float
) -> None:
    """Far longer than one invocation may; but no synchronous call waits for more than 15 minutes."""
    config = {"RetentionPeriodInDays": 7} | ({"ExecutionTimeout": execution_s} if execution_s else {})
    quotas = decide(
        Replies({"Configuration": {"Timeout": 30, "DurableConfig": config}}, ACCOUNT),
        AUTO,
        function_timeout_s=5.0,
    )
    assert (quotas.function_timeout_s, quotas.is_durable, quotas.durable_retention_days) == (
        expected_s,
        True,
        7,
    )


def test_the_users_word_on_the_timeout_holds_where_it_cannot_be_read() -> None:
    """What Lambda says is right; without it, the user's number is better than 900 s."""
    assert decide(Replies(FUNCTION, ACCOUNT), AUTO, function_timeout_s=5.0).function_timeout_s == 30.0
    told = decide(Replies("denied", ACCOUNT), AUTO, function_timeout_s=5.0)
    assert told.function_timeout_s == 5.0
    assert source_of(told, "timeout (s)") == "option --function-timeout; denied"


MANAGED = {
    "Configuration": {
        "Timeout": 30,
        "CapacityProviderConfig": {
            "LambdaManagedInstancesCapacityProviderConfig": {"PerExecutionEnvironmentMaxConcurrency": 16}
        },
    }
}


@pytest.mark.looptime
async def test_managed_instances_take_environments_times_calls_in_each() -> None:
    """Neither the account's pool nor a rate counts there; it begins with what three environments take."""
    scaling = {
        "AppliedFunctionScalingConfig": {"MinExecutionEnvironments": 3, "MaxExecutionEnvironments": 50}
    }
    api = Api(MANAGED, scaling=scaling)
    quotas = await ask(api)
    assert ("scaling", "f", {"Qualifier": "$LATEST.PUBLISHED"}) in api.asked
    assert (quotas.budget, quotas.cause, quotas.rate_per_s) == (800, "managed", None)
    assert (quotas.is_managed, quotas.managed_start) == (True, 48)
    assert quotas.unpriced == "managed instances"
    assert (await ask(api, Concurrency(fixed=2_000))).budget == 800
    denied = await ask(Api(MANAGED, scaling=ApiError("AccessDeniedException", 403)))
    assert (denied.budget, denied.is_assumed) == (48, True)


def test_accelerators_are_not_charged_by_the_gigabyte_second() -> None:
    """So their cost is not known."""
    accelerated = {"Configuration": {"Timeout": 30, "AcceleratorConfig": {"AcceleratorType": "any"}}}
    assert decide(Replies(accelerated, ACCOUNT), AUTO).unpriced == "accelerators"
    assert decide(Replies(FUNCTION, ACCOUNT), AUTO).unpriced is None


def test_tenants_have_a_limit_of_their_own() -> None:
    """Environments by tenant, idle ones included: far below the limit when tenants are many."""
    isolated = {"Configuration": {"Timeout": 30, "TenancyConfig": {"TenantIsolationMode": "PER_TENANT"}}}
    quotas = decide(Replies(isolated, ACCOUNT), AUTO)
    assert quotas.is_tenant_isolated
    assert next(figure.value for figure in quotas.figures if figure.name == "tenant environments") == 2_500
