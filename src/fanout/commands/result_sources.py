"""The sources of a run's results: queues, and what the function's configuration says of them."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from fanout.aws import AwsSession
from fanout.commands.collection import Collection
from fanout.commands.options import RunOptions
from fanout.errors import ConfigError, TransportError
from fanout.function_name import split_qualifier
from fanout.queues import parse_queue
from fanout.queues.client import SqsClient
from fanout.queues.event_config import EventConfig, read_event_config
from fanout.runs.audience import Audience
from fanout.transports.control import ControlClient, ControlRefusal, path_part
from fanout.transports.signed_http import SignedHttp


class Sources:
    """The queues that results come from, open, and what the function's configuration says of them."""

    def __init__(self, queues: list[SqsClient], config: EventConfig, session: AwsSession) -> None:
        self.session = session  # of Lambda
        self.queues = queues
        self.config = config

    @property
    def carries_successes(self) -> bool:
        """True if successes are known to reach one of the queues."""
        return self.config.carries_successes([queue.arn for queue in self.queues])


async def open_sources(
    stack: AsyncExitStack,
    asked: Collection,
    options: RunOptions,
    audience: Audience,
    *,
    remedy: str = "give --from sqs://QUEUE",
) -> Sources:
    """Open the queues and say what can be known before the first call. Raises ConfigError, FatalRefusal.

    ``remedy`` is what to do where no queue is known.
    """
    function, calls = options.function, options.calls
    profile, region = asked.profile or calls.profile, asked.region or calls.region
    lambda_session = await stack.enter_async_context(
        AwsSession(
            function=function,
            profile=profile,
            region=region,
            endpoint_url=asked.endpoint_url or calls.endpoint_url,
            verify=calls.verify,
        )
    )
    if options.durable and not asked.queues:  # its executions say it themselves
        return Sources([], EventConfig(), lambda_session)
    config = await _read_config(lambda_session, function, calls.qualifier)
    locations = list(asked.queues) or config.queues
    if not locations:
        raise ConfigError(_no_queue(function, config, remedy))
    session = await stack.enter_async_context(
        AwsSession(function=function, profile=profile, region=region, verify=calls.verify)
    )
    queues = []
    for location in locations:
        client = await SqsClient.open(session, parse_queue(location))
        stack.push_async_callback(client.aclose)
        await client.check_access()
        queues.append(client)
    sources = Sources(queues, config, lambda_session)
    names = ", ".join(str(queue) for queue in queues)
    if not config.is_read:
        audience.say(f"the destinations of {function} cannot be read; results are taken from {names}")
    elif not sources.carries_successes:
        audience.say(f"no successes go to {names}: records without a failure there stay accepted")
    return sources


async def sources_of(
    stack: AsyncExitStack, options: RunOptions, *, out: Path | None, audience: Audience
) -> Sources | None:
    """The result queues that a collecting run needs before its first call; None for any other run."""
    if not options.collect:
        return None
    if options.calls.invocation_type != "Event":
        raise ConfigError(
            "collect goes with invocation_type Event: other calls bring their results themselves"
        )
    if out is None:
        raise ConfigError("collect needs a run directory: give --out DIR")
    if options.local is not None:
        raise ConfigError(
            "collect and local are both given: a function of this machine has no destinations; leave one out"
        )
    remedy = f"leave collect out, and afterwards: fanout collect {out} --from sqs://QUEUE"
    return await open_sources(stack, Collection(), options, audience, remedy=remedy)


async def _read_config(session: AwsSession, function: str, qualifier: str | None) -> EventConfig:
    """The event configuration for the run's qualifier; what is denied is not known."""
    name, qualifier = split_qualifier(function, qualifier)
    query = {"Qualifier": qualifier} if qualifier else {}
    part = path_part(name)
    replies: list[dict[str, Any] | None] = []
    is_read = True
    http = await SignedHttp.open(session)
    try:
        control = ControlClient(http)
        for path in (f"/2015-03-31/functions/{part}", f"/2019-09-25/functions/{part}/event-invoke-config"):
            try:
                replies.append(await control.get(path, query))
            except ControlRefusal as refusal:
                replies.append(None)
                has_none = refusal.code == "ResourceNotFoundException" and path.endswith("config")
                is_read = is_read and has_none
            except (TransportError, OSError):
                replies.append(None)
                is_read = False
    finally:
        await http.aclose()
    return read_event_config(replies[0], replies[1], is_read=is_read)


def _no_queue(function: str, config: EventConfig, remedy: str) -> str:
    if not config.is_read:
        return f"the destinations of {function} cannot be read: {remedy}"
    others = [arn for arn in (config.on_success, config.on_failure, config.dead_letters) if arn]
    if others:
        return f"no result of {function} goes to a queue but to {', '.join(others)}: {remedy}"
    return (
        f"{function} has no destinations and no dead-letter queue: nothing tells what became of its Event "
        f"calls; configure an SQS destination, or {remedy}"
    )
