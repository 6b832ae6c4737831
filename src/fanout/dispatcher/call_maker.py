"""The making of calls: the template and the size check of a record, before anything is sent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fanout.config import Options
from fanout.dispatcher.call import Call, Feed
from fanout.dispatcher.record import InputRecord
from fanout.errors import ConfigError
from fanout.invoke_request import EVENT_PAYLOAD_BYTES, build_template, payload_fault
from fanout.model import ErrorDetail, InvokeTemplate, Record

_TEMPLATES_KEPT = 4096


class CallMaker:
    """Makes calls for one dispatcher. Templates of records with parameters of their own are kept.

    With ``run``, a run's id and generation, each call's durable execution has a name:
    ``<run id>-<seq>-<generation>-<repetition>``. The same name brings back the execution that exists,
    whatever became of it; so a repetition after a lost reply keeps it, and one after a function error, or a
    redrive, has another.
    """

    def __init__(self, options: Options, *, run: tuple[str, int] | None = None) -> None:
        self._options = options
        self._templates: dict[tuple[str, bool], InvokeTemplate] = {}
        self._run_name = run
        self.template = self._build(stream=options.stream)

    def renamed(self, call: Call) -> InvokeTemplate:
        """The template of a call that is repeated after a function error."""
        if self._run_name is None:
            return call.template
        return self._named(call.records[0], call.template, call.function_error_retries)

    def _named(self, record: InputRecord, base: InvokeTemplate, repetition: int) -> InvokeTemplate:
        assert self._run_name is not None
        run_id, generation = self._run_name
        own = record.own
        return self._build(
            stream=base.streaming,
            client_context=None if own is None else own.client_context,
            qualifier=None if own is None else own.qualifier,
            tenant_id=None if own is None else own.tenant_id,
            durable_name=f"{run_id}-{record.seq}-{generation}-{repetition}",
        )

    def stream_template(self) -> InvokeTemplate:
        """The dispatcher's template, with a streamed reply."""
        return self.template if self.template.streaming else self._build(stream=True)

    def of_record(
        self, feed: Feed, record: InputRecord, now_s: float, template: InvokeTemplate | None = None
    ) -> Call:
        """The call of one record. What is wrong with its parameters or its size becomes its fault."""
        template = template or self.template
        body = record.body
        if record.own is not None and record.fault is None:
            template, record.fault = self._template_of(record.own, template)
        if self._run_name is not None and record.fault is None:
            template = self._named(record, template, 0)
        if len(body) > EVENT_PAYLOAD_BYTES and record.fault is None:
            record.fault = payload_fault(template, body)
        call = Call(feed, (record,), body, template, now_s)
        call.may_have_run = record.may_have_run
        return call

    def of_records(self, feed: Feed, records: Sequence[InputRecord], now_s: float) -> list[Call]:
        """The calls of records without a fault and parameters of their own; those too large get one here."""
        if self._run_name is not None or max([len(record.body) for record in records]) > EVENT_PAYLOAD_BYTES:
            return [self.of_record(feed, record, now_s) for record in records]
        template = self.template
        return [Call(feed, (record,), record.body, template, now_s) for record in records]

    def template_of(self, record: InputRecord) -> InvokeTemplate:
        """The template of a record; what is wrong with its parameters becomes its fault."""
        if record.own is None or record.fault is not None:
            return self.template
        template, record.fault = self._template_of(record.own, self.template)
        return template

    def _template_of(self, record: Record, base: InvokeTemplate) -> tuple[InvokeTemplate, ErrorDetail | None]:
        """The template of a record's own parameters, or ``base`` and what is wrong with them."""
        try:
            own = repr((record.client_context, record.qualifier, record.tenant_id, record.durable_name))
            name = (own, base.streaming)  # not the values themselves: they may be of any type
            template = self._templates.get(name)
            if template is not None:
                return template, None
            template = self._build(
                stream=base.streaming,
                client_context=record.client_context,
                qualifier=record.qualifier,
                tenant_id=record.tenant_id,
                durable_name=record.durable_name,
            )
        except ConfigError as error:
            return base, ErrorDetail("InvalidParameter", str(error))
        except Exception as error:  # noqa: BLE001 - the values' own code
            return base, ErrorDetail("InvalidParameter", f"a parameter raised {type(error).__name__}")
        if len(self._templates) >= _TEMPLATES_KEPT:
            self._templates.clear()
        self._templates[name] = template
        return template, None

    def _build(self, *, stream: bool, **own: Any) -> InvokeTemplate:
        options = self._options
        asked = {name: value for name, value in own.items() if value is not None}
        return build_template(
            function=options.function,
            invocation_type=options.invocation_type,
            log_type=options.log_type,
            stream=stream,
            **{
                "qualifier": options.qualifier,
                "client_context": options.client_context,
                "tenant_id": options.tenant_id,
                "durable_name": options.durable_name,
                **asked,
            },
        )
