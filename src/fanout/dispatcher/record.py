"""One record as the engine carries it: numbered, as bytes, or with the fault that bars its sending."""

from __future__ import annotations

from typing import Any

import msgspec

from fanout.model import ErrorDetail, Record, Verdict
from fanout.payload import encode, is_plain_json, json_fault


class InputRecord(msgspec.Struct, gc=False):
    """A record of the input. ``body`` is the payload to send; with ``fault`` it is what was read.

    A fault is never sent: its outcome is ``rejected``, or ``unknown`` when ``fault_verdict`` is
    AMBIGUOUS (it may have run in an earlier session). ``line`` is 1-based; ``source`` is the input it
    came from, where there are several.
    """

    seq: int  # 0-based, over the whole input
    body: bytes
    key: str | None = None
    line: int | None = None
    source: str | None = None
    own: Record | None = None  # parameters of its own; its payload is not used
    fault: ErrorDetail | None = None
    fault_verdict: Verdict = Verdict.REJECTED
    may_have_run: bool = False  # in a call of a worker that was lost
    element: bytes | None = None  # in a batch: what stands for the record, where its input made that itself
    identifier: str | None = None  # and its name there
    deadline_s: float | None = None  # of its own, where the feed's is not for all; of the engine's clock


def record_of(
    seq: int, payload: Any, *, key: str | None = None, deadline_s: float | None = None
) -> InputRecord:
    """The record of anything a caller may hand in. Never raises: what is wrong becomes ``fault``."""
    if type(payload) is bytes and is_plain_json(payload):  # as from most services: nothing to find out
        return InputRecord(seq, payload, key, deadline_s=deadline_s)
    own: Record | None = None
    fault: ErrorDetail | None = None
    if isinstance(payload, Record):
        if (
            payload.client_context is not None
            or payload.qualifier is not None
            or payload.tenant_id is not None
            or payload.durable_name is not None
        ):
            own = payload
        if key is None and payload.key is not None:
            key, fault = _text_of(payload.key)
        payload = payload.payload
    try:
        body = encode(payload)
    except Exception as error:  # noqa: BLE001 - the payload's own code may run, and raise anything
        reason = _text_of(error)[0]
        fault = ErrorDetail("InvalidPayload", f"{type(payload).__name__} has no JSON form: {reason}")
        return InputRecord(seq, _excerpt(payload), key, own=own, fault=fault, deadline_s=deadline_s)
    if fault is None and body and isinstance(payload, (bytes, bytearray, memoryview)):
        problem = json_fault(body)
        if problem is not None:
            fault = ErrorDetail("InvalidJson", problem)
    return InputRecord(seq, body, key, own=own, fault=fault, deadline_s=deadline_s)


def _text_of(value: object) -> tuple[str | None, ErrorDetail | None]:
    """A key as text (it is a number, as often as not), or what is wrong with it."""
    try:
        return str(value), None
    except Exception as error:  # noqa: BLE001 - the value's own code
        return None, ErrorDetail("InvalidKey", f"{type(value).__name__} has no text: {type(error).__name__}")


def _excerpt(payload: Any) -> bytes:
    try:
        return repr(payload)[:1024].encode(errors="replace")
    except Exception:  # noqa: BLE001 - as above
        return b""
