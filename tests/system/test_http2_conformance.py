"""RFC 9113 over a real connection: each row breaks one rule and names the answers that the RFC allows.

The rows follow the sections of the RFC. Where the RFC asks for a stream error, a connection error of the same code is
allowed too (§5.4.1); a malformed request may also be answered with a 400 (§8.1.1).
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from harness import Server
from harness.certificate import Certificate
from harness.http2 import (
    ACK,
    ENABLE_PUSH,
    END_HEADERS,
    END_STREAM,
    HEADER_TABLE_SIZE,
    INITIAL_WINDOW_SIZE,
    MAX_CONCURRENT_STREAMS,
    MAX_FRAME_SIZE,
    PADDED,
    PREFACE,
    PRIORITY,
    Code,
    Http2Connection,
    Kind,
    frame,
    settings,
)


@pytest.fixture(scope="module")
def server(serve_module: Callable[..., Server]) -> Server:
    return serve_module("plain_wsgi:app", workers=2)


@pytest.fixture
def connection(server: Server, certificate: Certificate) -> Http2Connection:
    return Http2Connection(server.https_url, certificate.context())


# What is allowed

CONNECTION = "GOAWAY"
STREAM = "RST_STREAM"
BAD_REQUEST = "400"


@dataclass(frozen=True)
class Row:
    name: str
    section: str
    send: Callable[[Http2Connection], bytes]
    codes: tuple[Code, ...]
    # A stream error may be answered by a reset, by GOAWAY, and, for malformed requests, by a 400.
    error: str = CONNECTION


def outcome(connection: Http2Connection) -> tuple[str, int]:
    """The first sign of refusal: what it is, and its error code."""
    while (found := connection.read()) is not None:
        if found.kind == Kind.GOAWAY:
            return CONNECTION, found.code
        if found.kind == Kind.RST_STREAM:
            return STREAM, found.code
        if found.kind == Kind.HEADERS:
            status = dict(connection.decoder.decode(found.payload))[":status"]
            return status, 0
    return "closed", 0


def get(connection: Http2Connection, stream: int = 1, *extra: tuple[str, str], end_stream: bool = True) -> bytes:
    return connection.headers(stream, [*connection.request_fields(), *extra], end_stream)


def post(connection: Http2Connection, *extra: tuple[str, str], path: str = "/echo") -> bytes:
    return connection.headers(1, [*connection.request_fields(path, "POST"), *extra], end_stream=False)


def fields(*wanted: tuple[str, str]) -> Callable[[Http2Connection], bytes]:
    return lambda connection: connection.headers(1, list(wanted))


def with_field(name: str, value: str) -> Callable[[Http2Connection], bytes]:
    return lambda connection: get(connection, 1, (name, value))


def always(data: bytes) -> Callable[[Http2Connection], bytes]:
    return lambda _: data


def window_update(stream: int, increment: int) -> bytes:
    return frame(Kind.WINDOW_UPDATE, 0, stream, struct.pack("!I", increment))


PROTOCOL, SIZE, FLOW = (Code.PROTOCOL_ERROR,), (Code.FRAME_SIZE_ERROR,), (Code.FLOW_CONTROL_ERROR,)
COMPRESSION, CLOSED = (Code.COMPRESSION_ERROR,), (Code.STREAM_CLOSED,)
A, P, S, M = (":authority", "localhost"), (":path", "/"), (":scheme", "https"), (":method", "GET")

CONNECTION_ERRORS = [
    Row("frame larger than the limit", "4.2", lambda c: get(c, end_stream=False) + frame(0, 0, 1, b"x" * 16385), SIZE),
    Row("HEADERS larger than the limit", "4.2", always(frame(Kind.HEADERS, END_HEADERS, 1, b"\0" * 16385)), SIZE),
    Row("invalid header block: index 0", "4.3", always(frame(Kind.HEADERS, 5, 1, b"\x80")), COMPRESSION),
    Row("invalid header block: index beyond the table", "4.3", always(frame(Kind.HEADERS, 5, 1, b"\xff\xff\x7f")), COMPRESSION),
    Row("invalid header block: truncated", "4.3", always(frame(Kind.HEADERS, 5, 1, b"\x40\x05ab")), COMPRESSION),
    Row("invalid header block: bad Huffman", "4.3", always(frame(Kind.HEADERS, 5, 1, b"\x40\x84\xff\xff\xff\xff\x01a")), COMPRESSION),
    Row("table size above the setting", "4.3", always(frame(Kind.HEADERS, 5, 1, b"\x3f\xe1\xff\x03\x82")), COMPRESSION),
    Row("frame between HEADERS and CONTINUATION", "4.3", lambda c: c.headers(1, c.request_fields(), flags=0) + frame(Kind.PING, 0, 0, bytes(8)), PROTOCOL),
    Row("HEADERS between HEADERS and CONTINUATION", "4.3", lambda c: c.headers(1, c.request_fields(), flags=0) + get(c, 3), PROTOCOL),
    Row("CONTINUATION of another stream", "6.10", lambda c: c.headers(1, c.request_fields(), flags=0) + frame(Kind.CONTINUATION, 4, 3), PROTOCOL),
    Row("CONTINUATION without HEADERS", "6.10", always(frame(Kind.CONTINUATION, END_HEADERS, 1, b"\x82")), PROTOCOL),
    Row("CONTINUATION on stream 0", "6.10", always(frame(Kind.CONTINUATION, END_HEADERS, 0, b"\x82")), PROTOCOL),
    Row("DATA on an idle stream", "5.1", always(frame(Kind.DATA, END_STREAM, 1, b"x")), PROTOCOL),
    Row("RST_STREAM on an idle stream", "5.1", always(frame(Kind.RST_STREAM, 0, 1, bytes(4))), PROTOCOL),
    Row("WINDOW_UPDATE on an idle stream", "5.1", always(window_update(1, 1)), PROTOCOL),
    Row("HEADERS on an even stream", "5.1.1", lambda c: get(c, 2), PROTOCOL),
    Row("stream number lower than one used", "5.1.1", lambda c: get(c, 5) + get(c, 3), (*PROTOCOL, *CLOSED)),
    Row("DATA on stream 0", "6.1", always(frame(Kind.DATA, END_STREAM, 0, b"x")), PROTOCOL),
    Row("DATA with padding longer than the frame", "6.1", lambda c: post(c) + frame(Kind.DATA, PADDED | END_STREAM, 1, b"\x09abc"), PROTOCOL),
    Row("HEADERS on stream 0", "6.2", lambda c: get(c, 0), PROTOCOL),
    Row("HEADERS with padding longer than the frame", "6.2", always(frame(Kind.HEADERS, PADDED | 5, 1, b"\xff\x82\x87\x84")), PROTOCOL),
    Row("PRIORITY on stream 0", "6.3", always(frame(Kind.PRIORITY, 0, 0, bytes(5))), PROTOCOL),
    Row("RST_STREAM on stream 0", "6.4", always(frame(Kind.RST_STREAM, 0, 0, bytes(4))), PROTOCOL),
    Row("RST_STREAM of 3 bytes", "6.4", lambda c: post(c) + frame(Kind.RST_STREAM, 0, 1, bytes(3)), SIZE),
    Row("SETTINGS acknowledgement with a payload", "6.5", always(frame(Kind.SETTINGS, ACK, 0, bytes(6))), SIZE),
    Row("SETTINGS on a stream", "6.5", always(frame(Kind.SETTINGS, 0, 1, b"")), PROTOCOL),
    Row("SETTINGS of 5 bytes", "6.5", always(frame(Kind.SETTINGS, 0, 0, bytes(5))), SIZE),
    Row("ENABLE_PUSH of 2", "6.5.2", always(settings({ENABLE_PUSH: 2})), PROTOCOL),
    Row("INITIAL_WINDOW_SIZE of 2^31", "6.5.2", always(settings({INITIAL_WINDOW_SIZE: 1 << 31})), FLOW),
    Row("MAX_FRAME_SIZE of 16383", "6.5.2", always(settings({MAX_FRAME_SIZE: 16383})), PROTOCOL),
    Row("MAX_FRAME_SIZE of 2^24", "6.5.2", always(settings({MAX_FRAME_SIZE: 1 << 24})), PROTOCOL),
    Row("PUSH_PROMISE of a client", "8.4", always(frame(Kind.PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\x02\x82")), PROTOCOL),
    Row("PING on a stream", "6.7", always(frame(Kind.PING, 0, 1, bytes(8))), PROTOCOL),
    Row("PING of 6 bytes", "6.7", always(frame(Kind.PING, 0, 0, bytes(6))), SIZE),
    Row("GOAWAY on a stream", "6.8", always(frame(Kind.GOAWAY, 0, 1, bytes(8))), PROTOCOL),
    Row("WINDOW_UPDATE of 0 on the connection", "6.9", always(window_update(0, 0)), PROTOCOL),
    Row("WINDOW_UPDATE of 3 bytes", "6.9", always(frame(Kind.WINDOW_UPDATE, 0, 0, bytes(3))), SIZE),
    Row("window of the connection above 2^31-1", "6.9.1", always(window_update(0, 0x7FFFFFFF) * 2), FLOW),
    Row("first frame is not SETTINGS", "3.4", lambda c: b"", PROTOCOL),
]

STREAM_ERRORS = [
    Row("DATA after END_STREAM", "5.1", lambda c: c.headers(1, c.request_fields("/slow?seconds=0.2")) + frame(Kind.DATA, END_STREAM, 1, b"x"), CLOSED, STREAM),
    Row("HEADERS after END_STREAM", "5.1", lambda c: c.headers(1, c.request_fields("/slow?seconds=0.2")) + get(c, 1), CLOSED, STREAM),
    Row("PRIORITY of 4 bytes", "6.3", lambda c: post(c) + frame(Kind.PRIORITY, 0, 1, bytes(4)), SIZE, STREAM),
    Row("WINDOW_UPDATE of 0 on a stream", "6.9", lambda c: post(c) + window_update(1, 0), PROTOCOL, STREAM),
    Row("window of a stream above 2^31-1", "6.9.1", lambda c: post(c) + window_update(1, 0x7FFFFFFF) * 2, FLOW, STREAM),
    Row("trailers without END_STREAM", "8.1", lambda c: post(c) + frame(0, 0, 1, b"x") + c.headers(1, [("x-a", "b")], end_stream=False), PROTOCOL, STREAM),
]

MALFORMED = [
    Row("upper-case field name", "8.2.1", lambda c: c.headers(1, [(n.encode(), v.encode()) for n, v in [*c.request_fields(), ("X-Upper", "a")]]), PROTOCOL, BAD_REQUEST),
    Row("space in a field name", "8.2.1", with_field("x a", "b"), PROTOCOL, BAD_REQUEST),
    Row("line end in a field value", "8.2.1", with_field("x-a", "b\r\nx-injected: c"), PROTOCOL, BAD_REQUEST),
    Row("NUL in a field value", "8.2.1", with_field("x-a", "b\0c"), PROTOCOL, BAD_REQUEST),
    Row("Connection", "8.2.2", with_field("connection", "keep-alive"), PROTOCOL, BAD_REQUEST),
    Row("Transfer-Encoding", "8.2.2", with_field("transfer-encoding", "chunked"), PROTOCOL, BAD_REQUEST),
    Row("Upgrade", "8.2.2", with_field("upgrade", "h2c"), PROTOCOL, BAD_REQUEST),
    Row("Keep-Alive", "8.2.2", with_field("keep-alive", "timeout=5"), PROTOCOL, BAD_REQUEST),
    Row("TE other than trailers", "8.2.2", with_field("te", "gzip"), PROTOCOL, BAD_REQUEST),
    Row("unknown pseudo-header", "8.3", fields(M, S, A, P, (":unknown", "x")), PROTOCOL, BAD_REQUEST),
    Row("pseudo-header of a response", "8.3", fields(M, S, A, P, (":status", "200")), PROTOCOL, BAD_REQUEST),
    Row("pseudo-header after a regular field", "8.3", fields(M, S, A, ("x-a", "b"), P), PROTOCOL, BAD_REQUEST),
    Row("pseudo-header in trailers", "8.1", lambda c: post(c) + frame(0, 0, 1, b"x") + c.headers(1, [(":method", "GET")]), PROTOCOL, BAD_REQUEST),
    Row("no :method", "8.3.1", fields(S, A, P), PROTOCOL, BAD_REQUEST),
    Row("no :scheme", "8.3.1", fields(M, A, P), PROTOCOL, BAD_REQUEST),
    Row("no :path", "8.3.1", fields(M, S, A), PROTOCOL, BAD_REQUEST),
    Row("empty :path", "8.3.1", fields(M, S, A, (":path", "")), PROTOCOL, BAD_REQUEST),
    Row("two :method", "8.3.1", fields(M, M, S, A, P), PROTOCOL, BAD_REQUEST),
    Row("two :scheme", "8.3.1", fields(M, S, S, A, P), PROTOCOL, BAD_REQUEST),
    Row("two :path", "8.3.1", fields(M, S, A, P, P), PROTOCOL, BAD_REQUEST),
    Row("neither :authority nor Host", "8.3.1", fields(M, S, P), PROTOCOL, BAD_REQUEST),
    Row("Host that differs from :authority", "8.3.1", fields(M, S, A, P, ("host", "other.test")), PROTOCOL, BAD_REQUEST),
    Row("two different Content-Length", "8.1.1", lambda c: post(c, ("content-length", "1"), ("content-length", "2")), PROTOCOL, BAD_REQUEST),
    Row("body longer than Content-Length", "8.1.1", lambda c: post(c, ("content-length", "1")) + frame(0, END_STREAM, 1, b"ab"), PROTOCOL, BAD_REQUEST),
    Row("body shorter than Content-Length", "8.1.1", lambda c: post(c, ("content-length", "3")) + frame(0, END_STREAM, 1, b"ab"), PROTOCOL, BAD_REQUEST),
    Row("no body where Content-Length promises one", "8.1.1", lambda c: get(c, 1, ("content-length", "1")), PROTOCOL, BAD_REQUEST),
]


def rows(table: list[Row]) -> list[object]:
    return [pytest.param(row, id=f"{row.section} {row.name}") for row in table]


@pytest.mark.parametrize("row", rows(CONNECTION_ERRORS))
def test_connection_error(server: Server, certificate: Certificate, row: Row) -> None:
    starts_wrong = row.section == "3.4"
    with Http2Connection(server.https_url, certificate.context(), 20 - 15 * starts_wrong, not starts_wrong) as connection:
        if starts_wrong:
            connection.send(PREFACE + frame(Kind.PING, 0, 0, bytes(8)))
        connection.send(row.send(connection))
        last = connection.until(Kind.GOAWAY)
        if last is not None:
            assert last.code in row.codes, f"GOAWAY {Code(last.code).name}"
            # After a connection error the connection is closed (§5.4.1).
            while connection.read() is not None:
                pass


@pytest.mark.parametrize("row", rows(STREAM_ERRORS))
def test_stream_error(server: Server, certificate: Certificate, row: Row) -> None:
    with Http2Connection(server.https_url, certificate.context()) as connection:
        connection.send(row.send(connection))
        sign, code = outcome(connection)
        assert sign in (STREAM, CONNECTION), f"answered {sign}"
        assert code in row.codes, f"{sign} {Code(code).name}"


@pytest.mark.parametrize("row", rows(MALFORMED))
def test_malformed_request(server: Server, certificate: Certificate, row: Row) -> None:
    with Http2Connection(server.https_url, certificate.context()) as connection:
        connection.send(row.send(connection))
        sign, code = outcome(connection)
        assert sign in (STREAM, CONNECTION, "400"), f"answered {sign}"
        if sign != "400":
            assert code in row.codes, f"{sign} {Code(code).name}"
    # Whatever happened to that connection, the next one is served.
    with Http2Connection(server.https_url, certificate.context()) as connection:
        assert connection.get(1).body == b"hello"


def test_bad_preface_closes_the_connection(server: Server, certificate: Certificate) -> None:
    """§3.4: GOAWAY may be omitted, because the peer evidently does not speak HTTP/2."""
    with Http2Connection(server.https_url, certificate.context(), preface=False) as connection:
        connection.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" + bytes(64))
        connection.until(Kind.GOAWAY)
        while connection.read() is not None:
            pass


def test_settings_come_first_and_are_acknowledged(connection: Http2Connection) -> None:
    with connection:
        first = connection.read()
        assert first is not None and first.kind == Kind.SETTINGS and not first.flags & ACK
        announced = dict(struct.iter_unpack("!HI", first.payload))
        assert announced.get(MAX_CONCURRENT_STREAMS, 0) >= 100, "§6.5.2 recommends at least 100"
        while True:
            found = connection.until(Kind.SETTINGS)
            assert found is not None
            if found.flags & ACK:
                assert (found.stream, found.payload) == (0, b"")
                return


def test_ping_is_answered_with_its_payload(connection: Http2Connection) -> None:
    with connection:
        connection.send(frame(Kind.PING, 0, 0, b"\1\2\3\4\5\6\7\x08"))
        found = connection.until(Kind.PING)
        assert found is not None and found.flags & ACK and found.payload == b"\1\2\3\4\5\6\7\x08"


TOLERATED = [
    ("unknown frame type", lambda c: frame(0x42, 0xFF, 0, b"ignored") + frame(0x43, 0, 1, b"")),
    ("unknown setting", lambda c: settings({0xF0F0: 1})),
    ("undefined flags", lambda c: frame(Kind.PING, 0x16, 0, bytes(8))),
    ("reserved bit set", lambda c: struct.pack("!I", 8)[1:] + struct.pack("!BBI", Kind.PING, 0, 0x80000000) + bytes(8)),
    ("PRIORITY on an idle stream", lambda c: frame(Kind.PRIORITY, 0, 99, b"\0\0\0\0\x10")),
    ("WINDOW_UPDATE on the connection", lambda c: window_update(0, 1000)),
    ("PING acknowledgement nobody asked for", lambda c: frame(Kind.PING, ACK, 0, bytes(8))),
    ("smaller header table", lambda c: settings({HEADER_TABLE_SIZE: 0})),
    ("several SETTINGS", lambda c: settings({MAX_FRAME_SIZE: 20000}) + settings({MAX_FRAME_SIZE: 16384})),
]


@pytest.mark.parametrize("name,send", TOLERATED, ids=[name for name, _ in TOLERATED])
def test_what_must_be_ignored(connection: Http2Connection, name: str, send: Callable[[Http2Connection], bytes]) -> None:
    with connection:
        connection.send(send(connection))
        assert connection.get(1).body == b"hello"


def test_header_block_in_several_continuations(connection: Http2Connection) -> None:
    with connection:
        block = connection.encoder.encode([*connection.request_fields("/facts"), ("x-long", "v" * 3000)], huffman=False)
        parts = [block[start : start + 600] for start in range(0, len(block), 600)]
        assert len(parts) == 6
        data = frame(Kind.HEADERS, END_STREAM, 1, parts[0])
        for part in parts[1:-1]:
            data += frame(Kind.CONTINUATION, 0, 1, part)
        connection.send(data + frame(Kind.CONTINUATION, END_HEADERS, 1, parts[-1]))
        assert b"v" * 3000 in connection.answer(1).body


@pytest.mark.parametrize("size", [0, 1, 100, 16_384])
def test_endless_continuations_end_the_connection(connection: Http2Connection, size: int) -> None:
    """CVE-2024-27316: a header block without an end. RFC 9113 §10.5 leaves the bound to the server; see http-strictness.md."""
    with connection:
        # The fragments belong to one value of 1 MiB, so that there is nothing wrong with them but their number.
        block = connection.encoder.encode(connection.request_fields()) + b"\0\1a\x7f\x81\xff\x3f"
        connection.send(frame(Kind.HEADERS, END_STREAM, 1, block))
        for _ in range(32):
            connection.send(frame(Kind.CONTINUATION, 0, 1, b"v" * size))
        found = connection.until(Kind.GOAWAY)
        assert found is not None and found.code == Code.ENHANCE_YOUR_CALM


def test_padding_and_priority_are_taken_off(connection: Http2Connection) -> None:
    with connection:
        block = connection.encoder.encode(connection.request_fields("/echo", "POST"))
        connection.send(
            frame(Kind.HEADERS, PADDED | PRIORITY | END_HEADERS, 1, b"\x08\0\0\0\0\x10" + block + bytes(8))
            + frame(Kind.DATA, PADDED, 1, b"\x03abc" + bytes(3))
            + frame(Kind.DATA, PADDED | END_STREAM, 1, b"\x00def")
        )
        assert connection.answer(1).body == b"abcdef"


def test_the_client_window_is_respected(server: Server, certificate: Certificate) -> None:
    """§6.9: with a window of 1,000 bytes exactly 1,000 come; the rest after a WINDOW_UPDATE."""
    with Http2Connection(server.https_url, certificate.context(), preface=False) as connection:
        connection.send(PREFACE + settings({INITIAL_WINDOW_SIZE: 1000}))
        connection.send(connection.headers(1, connection.request_fields("/download?bytes=5000")))
        # A PING after the first data: whatever the program may send now, it sends before the answer to the second.
        received = 0
        while received < 1000:
            found = connection.until(Kind.DATA)
            assert found is not None
            received += len(found.payload)
        assert received == 1000
        connection.send(frame(Kind.PING, 0, 0, bytes(8)))
        found = connection.until(Kind.DATA, Kind.PING)
        assert found is not None and found.kind == Kind.PING, "sent more than the window allows"
        connection.send(window_update(1, 4000))
        while received < 5000:
            found = connection.until(Kind.DATA)
            assert found is not None
            received += len(found.payload)
        assert received == 5000


def test_a_window_that_becomes_negative(server: Server, certificate: Certificate) -> None:
    """§6.9.2: a smaller INITIAL_WINDOW_SIZE may leave less than nothing; sending goes on only above zero."""
    with Http2Connection(server.https_url, certificate.context(), preface=False) as connection:
        connection.send(PREFACE + settings({INITIAL_WINDOW_SIZE: 100}))
        connection.send(connection.headers(1, connection.request_fields("/download?bytes=1000")))
        first = connection.until(Kind.DATA)
        assert first is not None and len(first.payload) <= 100
        connection.send(settings({INITIAL_WINDOW_SIZE: 50}) + window_update(1, 40) + frame(Kind.PING, 0, 0, bytes(8)))
        received = len(first.payload)
        while True:
            found = connection.until(Kind.DATA, Kind.PING)
            assert found is not None
            if found.kind == Kind.PING:
                break
            received += len(found.payload)
        assert received == 100, "the window is 100 - 50 + 40 - 100 < 0"
        connection.send(window_update(1, 10_000))
        while received < 1000:
            found = connection.until(Kind.DATA)
            assert found is not None
            received += len(found.payload)


def test_streams_are_answered_independently(connection: Http2Connection) -> None:
    """A slow answer does not hold back a later stream."""
    with connection:
        connection.send(connection.headers(1, connection.request_fields("/slow?seconds=2")))
        connection.send(connection.headers(3, connection.request_fields("/")))
        order = []
        while len(order) < 2:
            found = connection.read()
            assert found is not None
            if found.kind == Kind.HEADERS:
                order.append(found.stream)
        assert order == [3, 1]


def test_too_many_streams_are_refused_or_the_connection_ends(server: Server, certificate: Certificate) -> None:
    with Http2Connection(server.https_url, certificate.context()) as connection:
        first = connection.read()
        assert first is not None
        limit = dict(struct.iter_unpack("!HI", first.payload))[MAX_CONCURRENT_STREAMS]
        for index in range(limit + 1):
            connection.send(
                connection.headers(1 + 2 * index, connection.request_fields("/echo", "POST"), end_stream=False)
            )
        found = connection.until(Kind.RST_STREAM, Kind.GOAWAY)
        assert found is not None
        assert found.code in (Code.REFUSED_STREAM, Code.PROTOCOL_ERROR, Code.ENHANCE_YOUR_CALM)


def test_rapid_reset_ends_the_connection(server: Server, certificate: Certificate) -> None:
    """CVE-2023-44487: opening and resetting streams for ever must not be served for ever."""
    with Http2Connection(server.https_url, certificate.context()) as connection:
        for index in range(20_000):
            stream = 1 + 2 * index
            connection.send(
                connection.headers(stream, connection.request_fields())
                + frame(Kind.RST_STREAM, 0, stream, struct.pack("!I", Code.CANCEL))
            )
        found = connection.until(Kind.GOAWAY)
        assert found is None or found.code in (Code.ENHANCE_YOUR_CALM, Code.PROTOCOL_ERROR)
    with Http2Connection(server.https_url, certificate.context()) as connection:
        assert connection.get(1).body == b"hello"


def test_trailers_of_a_request_do_not_become_headers(connection: Http2Connection) -> None:
    with connection:
        connection.send(
            connection.headers(1, connection.request_fields("/facts", "POST"), end_stream=False)
            + frame(Kind.DATA, 0, 1, b"body")
            + connection.headers(1, [("x-trailer", "late"), ("content-length", "9")])
        )
        answer = connection.answer(1)
        assert answer.status == 200
        assert b"HTTP_X_TRAILER" not in answer.body


def test_head_has_no_body(connection: Http2Connection) -> None:
    with connection:
        connection.send(connection.headers(1, connection.request_fields("/", "HEAD")))
        answer = connection.answer(1)
        assert (answer.status, answer.body) == (200, b"")
        assert dict(answer.headers)["content-length"] == "5"


def test_no_connection_specific_field_in_answers(connection: Http2Connection) -> None:
    with connection:
        names = [name for name, _ in connection.get(1, "/download?bytes=10").headers]
    assert not {"connection", "keep-alive", "transfer-encoding", "upgrade", "proxy-connection"} & set(names)
    assert names == [name.lower() for name in names]


def test_cookie_crumbs_are_joined(connection: Http2Connection) -> None:
    """§8.2.3: several cookie fields are one for an application that knows only HTTP/1.1."""
    with connection:
        crumbs = [("cookie", "a=1"), ("cookie", "b=2"), ("cookie", "c=3")]
        connection.send(connection.headers(1, [*connection.request_fields("/facts"), *crumbs]))
        assert b'"HTTP_COOKIE": "a=1; b=2; c=3"' in connection.answer(1).body
