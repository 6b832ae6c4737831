"""The quick reading of replies, beside the parser whose word counts."""

from __future__ import annotations

import pytest
from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fanout.transports.http import plain_reply
from fanout.transports.http.plain_reply import Answer, ShapedHeaders, read_plain_reply
from fanout.transports.replies import make_reply, reply_of
from tests.example_counts import examples

NAMES = {
    name: name.decode().lower()
    for name in (
        b"Content-Length",
        b"content-length",
        b"Connection",
        b"Transfer-Encoding",
        b"Upgrade",
        b"x-amzn-RequestId",
        b"X-Amz-Executed-Version",
        b"Date",
    )
}
PLAIN = (
    b"HTTP/1.1 200 OK\r\nDate: Sat, 28 Nov 2026 00:00:00 GMT\r\nx-amzn-RequestId: r-1\r\n"
    b'Connection: keep-alive\r\nContent-Length: 11\r\n\r\n{"ok":true}'
)


def all_of(answer: Answer) -> tuple[int, dict[str, str], bytes]:
    """An answer with its headers as a dict."""
    status, headers, body = answer
    if isinstance(headers, ShapedHeaders):
        names, constant = headers.shape.names, headers.shape.constant
        assert all(headers.get(name) == value for name, value in constant.items())
        assert headers.get("x-none") is None
        found = constant | {name: headers.get(name) or "" for name in names}
        return status, found, body
    assert isinstance(headers, dict)
    return status, headers, body


class Parsed:
    """What the parser says of some bytes: ``messages`` are whole ones."""

    def __init__(self, data: bytes) -> None:
        self.messages = 0
        self.keeps_alive = False
        self.headers: dict[str, str] = {}
        self.body = b""
        self._parser = HttpResponseParser(self)
        self._parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.messages += 1
        self.status = self._parser.get_status_code()
        self.keeps_alive = self._parser.should_keep_alive()


def test_a_plain_reply_is_read_without_the_parser() -> None:
    """What Lambda sends, as it sends it, is taken: else nothing would be saved."""
    answer = read_plain_reply(PLAIN, NAMES)
    assert answer is not None
    assert answer[0] == 200
    assert answer[1].get("x-amzn-requestid") == "r-1"
    assert answer[2] == b'{"ok":true}'


@pytest.mark.parametrize(
    "data",
    [
        PLAIN[:-1],
        PLAIN + b"x",
        PLAIN.replace(b"keep-alive", b"close"),
        PLAIN.replace(b"Content-Length: 11", b"Content-Length: +11"),
        PLAIN.replace(b"Content-Length: 11", b"Content-Length: 11\r\nContent-Length: 11"),
        PLAIN.replace(b"Content-Length: 11", b"Transfer-Encoding: chunked"),
        PLAIN.replace(b"Date", b"Unknown"),
        PLAIN.replace(b"r-1", b"r\x01"),
        PLAIN.replace(b"r-1", b"r\n1"),
        PLAIN.replace(b"200 OK", b"500 No"),
        PLAIN.replace(b"HTTP/1.1", b"HTTP/1.0"),
    ],
)
def test_whatever_differs_is_left_to_the_parser(data: bytes) -> None:
    """Pieces, surplus, another framing, unknown names, control characters, other statuses."""
    assert read_plain_reply(data, NAMES) is None


LINES = st.one_of(
    st.tuples(
        st.sampled_from([*NAMES, b"Other", b"bad name", b""]),
        st.sampled_from([b": ", b":", b" : ", b":  ", b"", b":\t"]),
        st.one_of(
            st.sampled_from([b"2", b"0", b"02", b"close", b"keep-alive", b"Keep-Alive, x", b"chunked", b""]),
            st.binary(max_size=6),
        ),
    ).map(b"".join),
    st.binary(max_size=12),
)


@given(
    st.sampled_from(
        [b"HTTP/1.1 200 OK", b"HTTP/1.1 202 Accepted", b"HTTP/1.1 204 No Content", b"HTTP/1.1  200 OK"]
    ),
    st.lists(LINES, max_size=4),
    st.sampled_from([b"Content-Length: 2", b"content-length: 2", b"Content-Length: 0", b"X: y"]),
    st.sampled_from([b"", b"{}", b"{}{}", b"\r\n"]),
)
@example(b"HTTP/1.1 200 OK", [b"Date: a\r\n b"], b"Content-Length: 2", b"{}")
@settings(max_examples=examples(300), deadline=None)
def test_what_is_read_quickly_is_what_the_parser_reads(
    status: bytes, lines: list[bytes], length: bytes, body: bytes
) -> None:
    """Never another status, header or body, and never a connection kept that the parser would not keep."""
    plain_reply._LINES.clear()
    plain_reply._SHAPES.clear()
    data = b"\r\n".join([status, *lines, length, b"", body])
    for _ in range(3):  # lines that are known, and a shape that is, too
        answer = read_plain_reply(data, NAMES)
        if answer is None:
            continue
        try:
            parsed = Parsed(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            pytest.fail(f"the parser refuses {data!r}: {error}")
        assert (parsed.messages, parsed.keeps_alive) == (1, True), data
        assert all_of(answer) == (parsed.status, parsed.headers, parsed.body), data


@given(
    st.text(st.characters(min_codepoint=0, max_codepoint=255), max_size=8),
    st.sampled_from([b"11", b"011", b"2", b"", b"1 1", b"+11", b"1_1", b"\xb21"]),
    st.integers(0, len(PLAIN)),
    st.binary(max_size=3),
)
@example("r-2", b"11", 0, b"")
@example("", b"11", 0, b"")
@example(" r", b"11", 0, b"")
@settings(max_examples=examples(300), deadline=None)
def test_a_shape_takes_nothing_that_the_parser_reads_otherwise(
    value: str, length: bytes, place: int, inserted: bytes
) -> None:
    """Once a reply's shape is known, others are compared with it: values that differ, and broken ones."""
    plain_reply._LINES.clear()
    plain_reply._SHAPES.clear()
    for _ in range(2):
        read_plain_reply(PLAIN, NAMES)
    assert len(plain_reply._SHAPES) == 1
    data = PLAIN.replace(b"r-1", value.encode("latin-1")).replace(b"11\r", length + b"\r")
    data = data[:place] + inserted + data[place:]
    answer = read_plain_reply(data, NAMES)
    if answer is None:
        return
    parsed = Parsed(data)
    assert (parsed.messages, parsed.keeps_alive) == (1, True), data
    assert all_of(answer) == (parsed.status, parsed.headers, parsed.body), data


def test_replies_that_never_look_alike_make_no_shapes() -> None:
    """A header that is new in each reply: there is no end to such shapes."""
    plain_reply._LINES.clear()
    plain_reply._SHAPES.clear()
    for number in range(50):
        head = PLAIN.replace(b"Connection", b"X-Amz-Executed-Version: %d\r\nConnection" % number)
        assert read_plain_reply(head, NAMES) is not None
    assert not plain_reply._SHAPES
    for number in [*range(50)] * 2:
        head = PLAIN.replace(b"Connection", b"X-Amz-Executed-Version: %d\r\nConnection" % number)
        answer = read_plain_reply(head, NAMES)
        assert answer is not None
        assert answer[1].get("x-amz-executed-version") == str(number)
    assert len(plain_reply._SHAPES) <= 8


@given(
    lines=st.lists(
        st.sampled_from(
            [
                "x-amzn-requestid: r-{}",
                "x-amzn-trace-id: root=1;sampled={}",
                "x-amz-log-result: aGk{}",
                "x-amz-executed-version: 3",
                "x-amz-function-error: Unhandled",
                "x-amz-durable-execution-arn: arn:1",
                "content-encoding: identity",
                "date: {}",
            ]
        ),
        unique=True,
    )
)
@settings(max_examples=examples(200), deadline=None)
def test_a_reply_of_a_shape_says_what_its_headers_say(lines: list[str]) -> None:
    """Whichever of them it has: nothing that a caller sees hangs on how it was read."""
    plain_reply._LINES.clear()
    plain_reply._SHAPES.clear()
    names = {name.encode(): name for name in (line.partition(":")[0] for line in lines)}
    names[b"content-length"] = "content-length"
    for number in range(4):
        head = "".join(f"{line.format(number)}\r\n" for line in lines)
        data = f"HTTP/1.1 200 OK\r\n{head}content-length: 2\r\n\r\n{{}}".encode()
        answer = read_plain_reply(data, names)
        assert answer is not None
        status, headers, body = all_of(answer)
        assert reply_of(answer) == make_reply(status, body, headers.get)
