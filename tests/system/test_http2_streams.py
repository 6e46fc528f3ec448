"""The life of HTTP/2 streams: when one is open, what holds it up, and what that means for its connection."""

import os
import signal
import struct
import time
from pathlib import Path

import pytest

from harness import Server
from harness.certificate import Certificate
from harness.curl import curl
from harness.files import make_file
from harness.http2 import END_STREAM, INITIAL_WINDOW_SIZE, PREFACE, Code, Http2Connection, Kind, frame, settings
from harness.processes import eventually

HTTPS = ["https://127.0.0.1:0"]
# The program gives a client so long to say goodbye after a GOAWAY, while nothing of it is open.
FAREWELL = 3.0


def serve(app: str, certificate: Certificate, *arguments: object) -> Server:
    return Server(app, *certificate.flags, *arguments, binds=HTTPS, workers=1)


def window_update(stream: int, increment: int) -> bytes:
    return frame(Kind.WINDOW_UPDATE, 0, stream, struct.pack("!I", increment))


def data_of(connection: Http2Connection, stream: int, length: int) -> int:
    """Reads until `length` bytes of a stream have come; acknowledges PINGs."""
    received = 0
    while received < length:
        found = connection.until(Kind.DATA, Kind.PING)
        assert found is not None, f"closed after {received} of {length} bytes: {connection.received}"
        if found.kind == Kind.PING and not found.flags:
            connection.send(frame(Kind.PING, 1, 0, found.payload))
        received += len(found.payload) if found.kind == Kind.DATA and found.stream == stream else 0
    return received


class WebSocket:
    """A WebSocket on one stream (RFC 8441), message by message."""

    def __init__(self, connection: Http2Connection, stream: int, path: str = "/") -> None:
        self.connection, self.stream = connection, stream
        fields = [*connection.request_fields(path, "CONNECT"), (":protocol", "websocket")]
        fields.sort(key=lambda field: not field[0].startswith(":"))
        connection.send(connection.headers(stream, [*fields, ("sec-websocket-version", "13")], end_stream=False))
        found = connection.until(Kind.HEADERS)
        assert found is not None and found.stream == stream
        assert dict(connection.decoder.decode(found.payload))[":status"] == "200"

    def _frame(self, opcode: int, payload: bytes) -> None:
        head = bytes([0x80 | opcode, 0x80 | len(payload)]) + bytes(4)
        self.connection.send(frame(Kind.DATA, 0, self.stream, head + payload))

    def _receive(self) -> bytes:
        while True:
            found = self.connection.until(Kind.DATA, Kind.PING)
            assert found is not None, f"the connection was closed: {self.connection.received[-5:]}"
            if found.kind == Kind.PING and not found.flags:
                self.connection.send(frame(Kind.PING, 1, 0, found.payload))
            if found.kind == Kind.DATA and found.stream == self.stream:
                return found.payload

    def echo(self, text: bytes) -> None:
        self._frame(0x1, text)
        assert self._receive() == bytes([0x81, len(text)]) + text

    def expect_restart(self) -> None:
        """Is told that the server goes (1012), and answers."""
        assert self._receive() == b"\x88\x02\x03\xf4"
        self._frame(0x8, b"\x03\xf4")
        assert self._receive() == b""
        self.connection.send(frame(Kind.DATA, END_STREAM, self.stream))

    def close(self) -> None:
        """Ends with a close frame in both directions, then the stream."""
        self._frame(0x8, b"\x03\xe8")
        assert self._receive() == b"\x88\x02\x03\xe8"
        assert self._receive() == b""
        self.connection.send(frame(Kind.DATA, END_STREAM, self.stream))


def test_a_websocket_keeps_its_connection(certificate: Certificate) -> None:
    """Neither the idle time-out nor the most requests of a connection cut a WebSocket that talks; a stop ends it in
    order."""
    arguments = ("--keep-alive", "1s", "--keep-alive-requests", "2", "--graceful-timeout", "30s")
    with (
        serve("plain_asgi:app", certificate, *arguments) as server,
        Http2Connection(server.https_url, certificate.context()) as connection,
    ):
        socket = WebSocket(connection, 1)

        def talk(seconds: float) -> None:
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline:
                socket.echo(b"message")
                time.sleep(0.1)

        talk(2.5)
        assert not [found for found in connection.received if found.kind == Kind.GOAWAY], "it was taken for idle"
        # The second request is the last one.
        connection.send(connection.headers(3, connection.request_fields()))
        data_of(connection, 3, len("hello"))
        assert [found for found in connection.received if found.kind == Kind.GOAWAY]
        talk(FAREWELL + 2)
        assert server.process is not None
        server.process.send_signal(signal.SIGTERM)
        socket.expect_restart()
        assert server.stop() < 15


def test_a_stop_waits_for_a_client_that_does_not_answer_the_close_until_the_graceful_timeout(certificate: Certificate) -> None:
    with (
        serve("plain_asgi:app", certificate, "--graceful-timeout", "5s") as server,
        Http2Connection(server.https_url, certificate.context()) as connection,
    ):
        WebSocket(connection, 1).echo(b"message")
        assert server.stop() > FAREWELL + 1


def test_a_websocket_ends_with_its_stream(certificate: Certificate) -> None:
    with (
        serve("plain_asgi:app", certificate) as server,
        Http2Connection(server.https_url, certificate.context()) as connection,
    ):
        first, second = WebSocket(connection, 1), WebSocket(connection, 3)
        first.echo(b"one")
        second.echo(b"two")
        first.close()
        connection.send(frame(Kind.RST_STREAM, 0, 3, struct.pack("!I", Code.CANCEL)))
        assert connection.get(5).body == b"hello"


@pytest.mark.parametrize("reason", ["stop", "last request"])
def test_an_answer_is_sent_to_its_end_however_late_its_window_opens(
    certificate: Certificate, reason: str, tmp_path: Path
) -> None:
    """The client takes what its window allows, and the rest after the time that it would have to say goodbye."""
    make_file(tmp_path / "file", 100_000)
    last = ("--keep-alive-requests", "1") if reason == "last request" else ()
    with (
        serve("plain_wsgi:app", certificate, "--static-dir", f"/static={tmp_path}", *last) as server,
        Http2Connection(server.https_url, certificate.context()) as connection,
    ):
        connection.send(connection.headers(1, connection.request_fields("/static/file")))
        data_of(connection, 1, 65_535)
        if reason == "stop":
            assert server.process is not None
            server.process.send_signal(signal.SIGTERM)
        connection.send(frame(Kind.PING, 0, 0, bytes(8)))
        time.sleep(FAREWELL + 1.5)
        connection.send(window_update(0, 1_000_000) + window_update(1, 1_000_000))
        data_of(connection, 1, 100_000 - 65_535)
        assert connection.received[-1].flags & END_STREAM
        assert server.stop() < 15


def descriptors(server: Server) -> int:
    return len(os.listdir(f"/proc/{server.pid}/fd"))


def test_a_violation_of_a_client_that_takes_nothing_ends_the_connection(certificate: Certificate) -> None:
    """Blocked inside a DATA frame no GOAWAY can be said, and the client does not read the end of TLS either."""
    with serve("plain_wsgi:app", certificate, "--send-timeout", "1s", "--keep-alive", "1s") as server:
        before = descriptors(server)
        with Http2Connection(server.https_url, certificate.context(), preface=False, receive_buffer=4096) as connection:
            connection.send(PREFACE + settings({INITIAL_WINDOW_SIZE: 0x7FFFFFFF}) + window_update(0, 0x7FFF0000))
            for stream in (1, 3, 5, 7):
                connection.send(connection.headers(stream, connection.request_fields("/download?bytes=5000000")))
            eventually(lambda: descriptors(server) > before, "the connection is there")
            # Once something has come, the rest of it fills every buffer on the way.
            assert connection.until(Kind.DATA) is not None
            connection.send(frame(Kind.RST_STREAM, 0, 1, b"xyz"))
            eventually(lambda: descriptors(server) <= before, "the connection is cut")


def test_a_stream_whose_window_stays_closed_is_reset_by_itself(certificate: Certificate) -> None:
    """Other requests on the connection go on, and do not renew its time."""
    with (
        serve("plain_wsgi:app", certificate, "--send-timeout", "1s") as server,
        Http2Connection(server.https_url, certificate.context(), preface=False) as connection,
    ):
        connection.send(PREFACE + settings({INITIAL_WINDOW_SIZE: 1}))
        stalled = set(range(1, 41, 2))
        for stream in stalled:
            connection.send(connection.headers(stream, connection.request_fields("/download?bytes=300000")))
        stream = 43
        while stalled:
            connection.send(connection.headers(stream, connection.request_fields("/", "HEAD")))
            found = connection.until(Kind.RST_STREAM, Kind.HEADERS, Kind.GOAWAY)
            assert found is not None and found.kind != Kind.GOAWAY, f"the whole connection was ended: {found}"
            while found.stream != stream or found.kind != Kind.HEADERS:
                if found.kind == Kind.RST_STREAM:
                    assert found.code == Code.CANCEL
                    stalled.remove(found.stream)
                found = connection.until(Kind.RST_STREAM, Kind.HEADERS)
                assert found is not None
            stream += 2
            time.sleep(0.2)
        connection.send(settings({INITIAL_WINDOW_SIZE: 65_535}))
        connection.send(connection.headers(stream, connection.request_fields()))
        data_of(connection, stream, len("hello"))


def test_an_upload_that_goes_on_is_not_too_slow(certificate: Certificate) -> None:
    """No piece ends where a frame ends, so that the program is inside a frame all the time."""
    body = b"".join(frame(Kind.DATA, 0, 1, b"u" * 1000) for _ in range(60)) + frame(Kind.DATA, END_STREAM, 1)
    with (
        serve("plain_wsgi:app", certificate, "--header-timeout", "1s") as server,
        Http2Connection(server.https_url, certificate.context()) as connection,
    ):
        connection.send(connection.headers(1, connection.request_fields("/digest", "POST"), end_stream=False))
        position, size = 0, 505
        while position < len(body):
            connection.send(body[position : position + size])
            position, size = position + size, 2018
            time.sleep(0.1)
        assert b'"length": 60000' in connection.answer(1).body


def refused(connection: Http2Connection) -> bytes:
    """A request that h2 refuses by itself."""
    fields = [*connection.request_fields("/", "POST"), ("content-length", "0"), ("content-length", "7")]
    return connection.headers(1, fields, end_stream=False)


def abandoned(connection: Http2Connection) -> bytes:
    """One that its client resets at once."""
    reset = frame(Kind.RST_STREAM, 0, 1, struct.pack("!I", Code.CANCEL))
    return connection.headers(1, connection.request_fields("/echo", "POST"), end_stream=False) + reset


@pytest.mark.parametrize("request_frames", [refused, abandoned])
def test_a_stream_that_was_never_served_is_not_open(certificate: Certificate, request_frames) -> None:
    with (
        serve("plain_wsgi:app", certificate, "--keep-alive", "1s", "--send-timeout", "300s") as server,
        Http2Connection(server.https_url, certificate.context()) as connection,
    ):
        connection.send(request_frames(connection))
        found = connection.until(Kind.GOAWAY)
        assert found is not None and found.code == Code.NO_ERROR, "the connection counts as idle"
    with (
        serve("plain_wsgi:app", certificate) as server,
        Http2Connection(server.https_url, certificate.context()) as connection,
    ):
        connection.send(request_frames(connection))
        assert connection.get(3).body == b"hello"
        assert server.stop() < 15


def informational(connection: Http2Connection, stream: int) -> list[dict[str, str]]:
    """All heads of a stream, up to and with the last one."""
    heads = []
    while not heads or heads[-1][":status"].startswith("1"):
        found = connection.until(Kind.HEADERS)
        assert found is not None and found.stream == stream
        heads.append(dict(connection.decoder.decode(found.payload)))
    return heads


def statuses(connection: Http2Connection, stream: int) -> list[str]:
    return [head[":status"] for head in informational(connection, stream)]


def test_expect_100_continue(certificate: Certificate) -> None:
    with (
        serve("plain_wsgi:app", certificate, "--max-body", "10kB") as server,
        Http2Connection(server.https_url, certificate.context()) as connection,
    ):

        def post(stream: int, *fields: tuple[str, str], path: str = "/echo") -> bytes:
            all_fields = [*connection.request_fields(path, "POST"), ("expect", "100-continue"), *fields]
            return connection.headers(stream, all_fields, end_stream=False)

        connection.send(post(1))
        found = connection.until(Kind.HEADERS)
        assert found is not None and dict(connection.decoder.decode(found.payload)) == {":status": "100"}
        connection.send(frame(Kind.DATA, END_STREAM, 1, b"body"))
        assert connection.answer(1).body == b"body"
        # Refused before the body is wanted: the client never needs to send it.
        connection.send(post(3, ("content-length", "20000")))
        assert statuses(connection, 3) == ["413"]
        connection.send(post(5, path="/a/../../b"))
        assert statuses(connection, 5) == ["400"]
        # A body that is there already was not waited for.
        connection.send(post(7) + frame(Kind.DATA, END_STREAM, 7, b"body"))
        assert statuses(connection, 7) == ["200"]


@pytest.mark.parametrize("app", ["plain_wsgi:app", "plain_asgi:app"], ids=["wsgi", "asgi"])
def test_early_hints(certificate: Certificate, app: str) -> None:
    with (
        serve(app, certificate) as server,
        Http2Connection(server.https_url, certificate.context()) as connection,
    ):
        for stream in (1, 3):
            connection.send(connection.headers(stream, connection.request_fields("/early-hint")))
            heads = informational(connection, stream)
            assert [head[":status"] for head in heads] == ["103", "103", "200"]
            assert [head["link"].split(">")[0] for head in heads[:2]] == ["</style.css", "</script.js"]
            assert "link" not in heads[2] and "date" in heads[2]
            data_of(connection, stream, len("hinted"))
        # A client that shares no code with this test shows them in the same order.
        shown = curl(f"{server.https_url}/early-hint", "--include", "--insecure", http="h2")
        assert shown.status == 200 and shown.version == "2"
        lines = [line for line in shown.body.split(b"\r\n") if line.startswith((b"HTTP/2", b"link:"))]
        assert [line.split(b">")[0].strip() for line in lines] == [
            b"HTTP/2 103",
            b"link: </style.css",
            b"HTTP/2 103",
            b"link: </script.js",
            b"HTTP/2 200",
        ]


def test_limits_of_the_head(certificate: Certificate) -> None:
    arguments = ("--max-target-size", "1000", "--max-headers", "20")
    with (
        serve("plain_wsgi:app", certificate, *arguments) as server,
        Http2Connection(server.https_url, certificate.context()) as connection,
    ):
        fields = connection.request_fields()
        crumbs = [("cookie", f"c{number}=v") for number in range(50)]
        # The authority counts as the Host that it is in HTTP/1, and crumbs as one field.
        cases = [
            (connection.request_fields(f"/{'a' * 1000}"), 414),
            (connection.request_fields(f"/?{'a' * 998}"), 200),
            ([*fields, *((f"x-{number}", "v") for number in range(20))], 431),
            ([*fields, *((f"x-{number}", "v") for number in range(19))], 200),
            ([*fields, *crumbs], 200),
        ]
        for number, (case, status) in enumerate(cases):
            stream = 2 * number + 1
            connection.send(connection.headers(stream, case))
            assert connection.answer(stream).status == status, case[3:]
