"""The display of one call's end: raw to a pipe, readable and harmless to a terminal, whole as JSON."""

from __future__ import annotations

import codecs
import json
import re
import sys
import time
from typing import Any, BinaryIO

import click
import msgspec

from fanout import exit_codes
from fanout.classify import STATUS_OF_FAILURE, status_of
from fanout.errors import ConfigError
from fanout.log_tail import add_log
from fanout.model import Classification, InvokeTemplate, OnChunk, Outcome, Reply, Verdict
from fanout.payload import embed
from fanout.quantities import iso
from fanout.stats.text import printable

_IN_WORDS = {
    "function_error": "the function reported",
    "rejected": "refused",
    "undelivered": "not delivered, the function did not run",
    "unknown": "the reply was lost, the function may have run",
}
# Everything but tab and line feed that could move, colour or hide something on a terminal.
_HOSTILE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]"
)


def harmless(text: str) -> str:
    """``text`` with its control characters as visible escapes, such as ``\\u001b``."""
    return _HOSTILE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


class Display:
    """Shows one call: its reply on stdout, or in ``out``; its log, its fault and what is no reply on stderr.

    With ``out`` stdout has status, function error and version, as the AWS CLI prints them.
    """

    def __init__(
        self,
        *,
        as_json: bool,
        log_type: str,
        template: InvokeTemplate,
        body: bytes,
        out: BinaryIO | None = None,
    ) -> None:
        self._as_json = as_json
        self._log_type = log_type
        self._template = template
        self._input = body
        self._out = out
        self._is_terminal = sys.stdout.isatty() and out is None
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._started_s = self._started_wall_s = 0.0
        self._streamed = False
        self._last_chunk = b""

    @property
    def on_chunk(self) -> OnChunk | None:
        """The taker of a stream's chunks; None where the reply is shown at its end."""
        return self._show_chunk if self._template.streaming and not self._as_json else None

    def start(self) -> None:
        """The call is about to be sent."""
        self._started_s, self._started_wall_s = time.perf_counter(), time.time()

    def end(self, reply: Reply | None, result: Classification) -> int:
        """Show how it ended; returns the exit code."""
        outcome = self._outcome(reply, result)
        if self._out is not None:
            self._keep(reply, result)
        if self._as_json:
            self._show_outcome(outcome)
        elif self._out is not None:
            self._show_members(reply, outcome)
        else:
            if outcome.log_tail is not None:
                self._show_log(outcome.log_tail)
            if reply is not None and result.verdict in (Verdict.SUCCESS, Verdict.FUNCTION_ERROR):
                self._show_body(reply.body)
            self._show_status(outcome)
        if result.verdict is Verdict.FATAL:
            return exit_codes.FATAL
        return exit_codes.OK if outcome.ok else exit_codes.FAILURES

    async def _show_chunk(self, chunk: bytes) -> None:
        self._streamed = True
        self._last_chunk = chunk or self._last_chunk
        if self._out is not None:
            self._put(self._out, chunk)
            return
        self._write(harmless(self._decoder.decode(chunk)).encode() if self._is_terminal else chunk)

    def _show_body(self, body: bytes) -> None:
        if self._streamed and self._is_terminal:
            self._write(harmless(self._decoder.decode(b"", final=True)).encode() + b"\n")
        if not self._is_terminal:
            # What a shell prints next begins on a line of its own.
            ends = b"" if (body or self._last_chunk or b"\n").endswith(b"\n") else b"\n"
            self._write(body + ends)
            return
        if not body:
            return
        try:
            text = json.dumps(json.loads(body), indent=2, ensure_ascii=False)
        except (ValueError, RecursionError):
            text = body.decode("utf-8", "replace")
        self._write(harmless(text).encode() + b"\n")

    def _keep(self, reply: Reply | None, result: Classification) -> None:
        assert self._out is not None
        has_result = reply is not None and result.verdict in (Verdict.SUCCESS, Verdict.FUNCTION_ERROR)
        self._put(self._out, reply.body if reply is not None and has_result else b"", is_last=True)

    @staticmethod
    def _put(file: BinaryIO, data: bytes, *, is_last: bool = False) -> None:
        try:
            file.write(data)
            if is_last:
                file.close()
        except OSError as error:
            raise ConfigError(f"output file {file.name!r} cannot be written: {error.strerror}") from error

    def _show_members(self, reply: Reply | None, outcome: Outcome) -> None:
        if outcome.log_tail is not None:
            self._show_log(outcome.log_tail)
        if reply is not None:
            members = {
                "StatusCode": reply.status,
                "FunctionError": reply.function_error,
                "ExecutedVersion": reply.executed_version,
            }
            text = json.dumps({name: value for name, value in members.items() if value is not None}, indent=4)
            self._write(text.encode() + b"\n")
        if not outcome.ok:
            self._show_status(outcome)

    def _show_outcome(self, outcome: Outcome) -> None:
        line = msgspec.json.encode(outcome)
        if self._is_terminal:
            try:
                text = msgspec.json.format(line, indent=2).decode()
            except msgspec.DecodeError:  # lone surrogates
                text = json.dumps(json.loads(line), indent=2)
            line = harmless(text).encode()
        self._write(line + b"\n")

    def _show_log(self, tail: str) -> None:
        text = tail.rstrip("\n")
        click.echo(harmless(text.replace("\r", "\n")) if sys.stderr.isatty() else text, err=True)

    def _show_status(self, outcome: Outcome) -> None:
        if outcome.status == "accepted":
            line = f"accepted, not executed yet; request id {outcome.request_id or 'unknown'}"
        elif outcome.status == "valid":
            line = "valid: the call would be allowed"
        elif outcome.error is not None:
            error = outcome.error
            said = f"{error.type}: {error.message}" if error.message else error.type
            line = f"{self._template.function}: {_IN_WORDS[outcome.status]}: {said}"
        elif sys.stderr.isatty():
            parts = [
                f"StatusCode {outcome.http_status}",
                f"version {outcome.executed_version}" if outcome.executed_version else "",
                f"{outcome.duration_ms:,.0f} ms",
            ]
            line = ", ".join(part for part in parts if part)
        else:
            return
        click.echo(f"fanout: {printable(line, 2_000)}", err=True)

    def _outcome(self, reply: Reply | None, result: Classification) -> Outcome:
        is_success = result.verdict is Verdict.SUCCESS and reply is not None
        outcome = Outcome(
            seq=0,
            status=status_of(reply.status)
            if is_success and reply is not None
            else STATUS_OF_FAILURE[result.verdict],
            attempts=1,
            throttles=int(result.verdict is Verdict.THROTTLED),
            started_at=iso(self._started_wall_s),
            duration_ms=round((time.perf_counter() - self._started_s) * 1e3, 3),
            error=result.error,
            **_own_parameters(self._template),
        )
        if not is_success:
            outcome.input_raw, outcome.input_encoding = embed(self._input)
        if reply is None:
            return outcome
        outcome.http_status = reply.status
        outcome.request_id = reply.request_id
        outcome.executed_version = reply.executed_version
        outcome.trace_id = reply.trace_id
        outcome.durable_execution_arn = reply.durable_execution_arn
        if is_success:
            outcome.output_raw, outcome.output_encoding = embed(reply.body)
        if reply.log_result is not None:
            add_log(outcome, reply.log_result, keeps_tail=self._log_type == "Tail" or not outcome.ok)
        return outcome

    @staticmethod
    def _write(data: bytes) -> None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


def _own_parameters(template: InvokeTemplate) -> dict[str, Any]:
    return {
        name: template.sdk_params.get(parameter)
        for name, parameter in (
            ("qualifier", "Qualifier"),
            ("client_context", "ClientContext"),
            ("tenant_id", "TenantId"),
            ("durable_name", "DurableExecutionName"),
        )
    }
