"""Clients that send or read slowly, or not at all: they hold a connection, never a worker."""

from contextlib import ExitStack

import httpx
import pytest

from harness import Server
from harness.certificate import Certificate
from harness.http2 import INITIAL_WINDOW_SIZE, PREFACE, Http2Connection, Kind, frame, settings
from harness.raw import RawConnection

APPLICATIONS = pytest.mark.parametrize("app", ["plain_wsgi:app", "plain_asgi:app"], ids=["wsgi", "asgi"])

STALLED = {
    "nothing sent": "",
    "half a request line": "GET /hel",
    "half a head": "GET / HTTP/1.1\r\nHost: localhost\r\nX-Half: ",
    "an upload without its body": "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n",
    "an upload with three bytes": "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\nabc",
    "half a chunk": "POST /echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nabc",
    "an upload of which 99 kB came": "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n" + "x" * 99_000,
}


@APPLICATIONS
@pytest.mark.parametrize("stalled", STALLED.values(), ids=STALLED.keys())
def test_stalled_clients_do_not_hold_the_only_worker(app: str, stalled: str) -> None:
    with Server(app, workers=1) as server, ExitStack() as stack:
        for _ in range(30):
            stack.enter_context(RawConnection(server.url)).send(stalled)
        with httpx.Client(base_url=server.url, timeout=20) as client:
            for _ in range(20):
                assert client.get("/").text == "hello"


def test_a_stalled_upload_that_goes_on_is_served() -> None:
    with Server("plain_wsgi:app", workers=1) as server, RawConnection(server.url) as connection:
        connection.send("POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n12345")
        assert httpx.get(server.url, timeout=20).text == "hello"
        connection.send("67890")
        assert connection.response().body == b"1234567890"


@APPLICATIONS
def test_readers_that_read_nothing_do_not_hold_the_only_worker(app: str) -> None:
    """Each asks for 5 MB and reads only the head; the worker has long been free again."""
    with Server(app, workers=1) as server, ExitStack() as stack:
        connections = [stack.enter_context(RawConnection(server.url)) for _ in range(10)]
        for connection in connections:
            connection.send("GET /download?bytes=5000000 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with httpx.Client(base_url=server.url, timeout=20) as client:
            for _ in range(20):
                assert client.get("/").text == "hello"
        # And each of them still gets everything when it reads at last.
        for connection in connections:
            assert len(connection.response().body) == 5_000_000


def test_an_http2_reader_with_a_closed_window_does_not_hold_the_only_worker(certificate: Certificate) -> None:
    with (
        Server("plain_wsgi:app", *certificate.flags, binds=["https://127.0.0.1:0"], workers=1) as server,
        Http2Connection(server.https_url, certificate.context(), preface=False) as stalled,
        Http2Connection(server.https_url, certificate.context()) as other,
    ):
        stalled.send(PREFACE + settings({INITIAL_WINDOW_SIZE: 0}))
        for stream in (1, 3, 5):
            stalled.send(stalled.headers(stream, stalled.request_fields("/download?bytes=1000000")))
        found = stalled.until(Kind.HEADERS)
        assert found is not None
        for stream in (1, 3, 5):
            assert other.get(stream).body == b"hello"


def test_an_http2_upload_that_stalls_does_not_hold_the_only_worker(certificate: Certificate) -> None:
    with (
        Server("plain_wsgi:app", *certificate.flags, binds=["https://127.0.0.1:0"], workers=1) as server,
        Http2Connection(server.https_url, certificate.context()) as connection,
    ):
        for stream in range(1, 41, 2):
            connection.send(
                connection.headers(stream, connection.request_fields("/echo", "POST"), end_stream=False)
                + frame(Kind.DATA, 0, stream, b"begin")
            )
        assert connection.get(41).body == b"hello"


def test_stalled_tls_handshakes_do_not_stop_others(certificate: Certificate) -> None:
    with (
        Server("plain_wsgi:app", *certificate.flags, binds=["https://127.0.0.1:0"], workers=1) as server,
        ExitStack() as stack,
    ):
        for beginning in (b"", b"\x16", b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/1.1\r\n"):
            for _ in range(5):
                connection = RawConnection(server.https_url)
                stack.enter_context(connection)
                connection.send(beginning)
        with httpx.Client(base_url=server.https_url, verify=certificate.context(), timeout=20) as client:
            assert client.get("/").text == "hello"
