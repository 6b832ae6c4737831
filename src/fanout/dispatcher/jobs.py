"""Which job a payload becomes: its bytes, its template, and its faults, found before anything is sent."""

from __future__ import annotations

from typing import Any

from fanout.config import Options
from fanout.dispatcher.feeds import Feed
from fanout.dispatcher.job import Job
from fanout.errors import ConfigError
from fanout.invoke_request import EVENT_PAYLOAD_BYTES, build_template, payload_fault
from fanout.model import ErrorDetail, InvokeTemplate, Record
from fanout.payload import encode, json_fault

_TEMPLATES_KEPT = 4096


class JobMaker:
    """Makes jobs for one dispatcher. Templates of records with parameters of their own are kept."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._templates: dict[tuple[str, bool], InvokeTemplate] = {}
        self.template = self._build(stream=options.stream)

    def stream_template(self) -> InvokeTemplate:
        """The dispatcher's template, with a streamed reply."""
        return self.template if self.template.streaming else self._build(stream=True)

    def of_payload(
        self,
        feed: Feed,
        seq: int,
        payload: Any,
        *,
        key: str | None = None,
        template: InvokeTemplate | None = None,
    ) -> Job:
        """A job of anything a caller may hand in; what is wrong with it becomes ``fault``."""
        own: Record | None = None
        fault: ErrorDetail | None = None
        template = template or self.template
        if isinstance(payload, Record):
            record, payload = payload, payload.payload
            if key is None and record.key is not None:
                key = str(record.key)  # a number, as often as not
            if (
                record.client_context is not None
                or record.qualifier is not None
                or record.tenant_id is not None
                or record.durable_name is not None
            ):
                own = record
                template, fault = self._template_of(record, template)
        try:
            body = encode(payload)
        except Exception as error:  # noqa: BLE001 - the payload's own code may run, and raise anything
            body = _excerpt(payload)
            fault = ErrorDetail("InvalidPayload", f"{type(payload).__name__} has no JSON form: {error}")
        else:
            if fault is None and isinstance(payload, (bytes, bytearray, memoryview)) and body:
                problem = json_fault(body)
                if problem is not None:
                    fault = ErrorDetail("InvalidJson", problem)
        return Job(
            feed=feed,
            seq=seq,
            body=body,
            template=template,
            pulled_s=feed.engine.clock(),
            key=key,
            own=own,
            fault=fault or payload_fault(template, body),
        )

    def of_bytes(
        self,
        feed: Feed,
        seq: int,
        body: bytes,
        *,
        key: str | None = None,
        line: int | None = None,
        fault: ErrorDetail | None = None,
        own: Record | None = None,
    ) -> Job:
        """A job of bytes that are known to be JSON, or known not to be (``fault``). The hot path."""
        template = self.template
        if own is not None and fault is None:
            template, fault = self._template_of(own, template)
        if fault is None and len(body) > EVENT_PAYLOAD_BYTES:
            fault = payload_fault(template, body)
        return Job(feed, seq, body, template, feed.engine.clock(), key, line, own, fault)

    def _template_of(self, record: Record, base: InvokeTemplate) -> tuple[InvokeTemplate, ErrorDetail | None]:
        """The template of a record's own parameters, or ``base`` and what is wrong with them."""
        own = (record.client_context, record.qualifier, record.tenant_id, record.durable_name)
        name = (repr(own), base.streaming)  # not the values themselves: they may be of any type
        template = self._templates.get(name)
        if template is not None:
            return template, None
        try:
            template = self._build(
                stream=base.streaming,
                client_context=record.client_context,
                qualifier=record.qualifier,
                tenant_id=record.tenant_id,
                durable_name=record.durable_name,
            )
        except ConfigError as error:
            return base, ErrorDetail("InvalidParameter", str(error))
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


def _excerpt(payload: Any) -> bytes:
    try:
        return repr(payload)[:1024].encode(errors="replace")
    except Exception:  # noqa: BLE001 - as above
        return b""
