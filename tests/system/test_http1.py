"""HTTP/1.1 on the wire: pipelining, 100-continue, chunks, trailers, HTTP/1.0, and a few requests that are refused."""

import contextlib
import json

import pytest

from harness import Server
from harness.raw import RawConnection, exchange

HOST = "Host: localhost\r\n"


@pytest.fixture(scope="module", params=["plain_wsgi:app", "plain_asgi:app"], ids=["wsgi", "asgi"])
def server(request: pytest.FixtureRequest, serve_module) -> Server:
    return serve_module(request.param, workers=2)


def test_pipelining_keeps_the_order(server: Server) -> None:
    with RawConnection(server.url) as connection:
        bodies = [f"request {number}".encode() * (number + 1) for number in range(20)]
        for body in bodies:
            connection.send(f"POST /echo HTTP/1.1\r\n{HOST}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        assert [connection.response().body for _ in bodies] == bodies


def test_a_request_sent_byte_by_byte(server: Server) -> None:
    with RawConnection(server.url) as connection:
        for byte in f"POST /echo HTTP/1.1\r\n{HOST}Content-Length: 3\r\n\r\nabc":
            connection.send(byte)
        assert connection.response().body == b"abc"


def test_100_continue_comes_before_the_body(server: Server) -> None:
    with RawConnection(server.url) as connection:
        connection.send(f"POST /echo HTTP/1.1\r\n{HOST}Content-Length: 4\r\nExpect: 100-continue\r\n\r\n")
        assert connection.head().status == 100
        connection.send("body")
        assert connection.response().body == b"body"


def test_unknown_expectation_is_417(server: Server) -> None:
    answer = exchange(server.url, f"POST /echo HTTP/1.1\r\n{HOST}Content-Length: 0\r\nExpect: miracles\r\n\r\n")
    assert answer.status in (200, 417)


def test_chunked_request_with_extensions_and_trailers(server: Server) -> None:
    with RawConnection(server.url) as connection:
        connection.send(f"POST /echo HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n")
        connection.send("4\r\nWiki\r\n5;name=value\r\npedia\r\n0\r\nX-Trailer: late\r\n\r\n")
        assert connection.response().body == b"Wikipedia"
        connection.send(f"GET / HTTP/1.1\r\n{HOST}\r\n")
        assert connection.response().body == b"hello"


def test_trailers_do_not_become_headers(server: Server) -> None:
    with RawConnection(server.url) as connection:
        connection.send(f"POST /facts HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n")
        connection.send("1\r\na\r\n0\r\nX-Trailer: late\r\nContent-Length: 9\r\n\r\n")
        assert b"late" not in connection.response().body


def test_http10_is_closed_after_the_answer(server: Server) -> None:
    with RawConnection(server.url) as connection:
        connection.send("GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")
        answer = connection.response()
        assert (answer.status, answer.body) == (200, b"hello")
        assert connection.is_closed()


def test_http10_keep_alive(server: Server) -> None:
    with RawConnection(server.url) as connection:
        for _ in range(2):
            connection.send("GET / HTTP/1.0\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n")
            answer = connection.response()
            assert answer.body == b"hello"
            assert (answer.header("connection") or "").lower() == "keep-alive"


def test_http10_never_gets_chunks(server: Server, tmp_path) -> None:
    for number in range(1, 4):
        (tmp_path / f"release-{number}").touch()
    with RawConnection(server.url) as connection:
        connection.send(f"GET /steps?count=3&record={tmp_path} HTTP/1.0\r\nHost: localhost\r\n\r\n")
        answer = connection.response()
        assert answer.header("transfer-encoding") is None
        assert answer.body.count(b"\n") >= 3


def test_connection_close_is_kept(server: Server) -> None:
    with RawConnection(server.url) as connection:
        connection.send(f"GET / HTTP/1.1\r\n{HOST}Connection: close\r\n\r\n")
        answer = connection.response()
        assert (answer.header("connection") or "").lower() == "close"
        assert connection.is_closed()


def test_head_has_the_headers_of_get_and_no_body(server: Server) -> None:
    with RawConnection(server.url) as connection:
        connection.send(f"HEAD / HTTP/1.1\r\n{HOST}\r\nGET / HTTP/1.1\r\n{HOST}\r\n")
        head = connection.response("HEAD")
        assert (head.status, head.header("content-length")) == (200, "5")
        assert connection.response().body == b"hello"


def test_every_answer_has_a_date_and_no_second_framing(server: Server) -> None:
    answer = exchange(server.url, f"GET / HTTP/1.1\r\n{HOST}\r\n")
    assert answer.header("date")
    assert answer.header("content-length") == "5"
    assert answer.header("transfer-encoding") is None
    assert (answer.version, answer.reason) == ("HTTP/1.1", "OK")


def test_underscore_in_a_name_never_reaches_the_application(server: Server) -> None:
    """`X_Forwarded_For` and `X-Forwarded-For` would be the same variable."""
    answer = exchange(server.url, f"GET /facts HTTP/1.1\r\n{HOST}X_User: evil\r\nX-User: good\r\n\r\n")
    assert answer.status == 200
    assert b"evil" not in answer.body and b"good" in answer.body


def test_repeated_fields_are_all_there(server: Server) -> None:
    answer = exchange(server.url, f"GET /facts HTTP/1.1\r\n{HOST}X-Many: one\r\nX-Many: two\r\nCookie: a=1\r\n\r\n")
    facts = json.loads(answer.body)
    if "environ" in facts:
        assert facts["environ"]["HTTP_X_MANY"] in ("one,two", "one, two")
    else:
        values = [value for name, value in facts["scope"]["headers"] if name == "x-many"]
        assert values == ["one", "two"]


REFUSED = {
    "Content-Length and Transfer-Encoding": f"POST /echo HTTP/1.1\r\n{HOST}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two Content-Length": f"POST /echo HTTP/1.1\r\n{HOST}Content-Length: 1\r\nContent-Length: 1\r\n\r\na",
    "chunked twice": f"POST /echo HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "unknown transfer coding": f"POST /echo HTTP/1.1\r\n{HOST}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "no Host": "GET / HTTP/1.1\r\n\r\n",
    "two Host": f"GET / HTTP/1.1\r\n{HOST}{HOST}\r\n",
    "user name in Host": "GET / HTTP/1.1\r\nHost: user@localhost\r\n\r\n",
    "space before the colon": f"GET / HTTP/1.1\r\n{HOST}X-Space : a\r\n\r\n",
    "folded line": f"GET / HTTP/1.1\r\n{HOST}X-Folded: a\r\n b\r\n\r\n",
    "line feeds only": "GET / HTTP/1.1\nHost: localhost\n\n",
    "NUL in a value": f"GET / HTTP/1.1\r\n{HOST}X-Nul: a\0b\r\n\r\n",
    "encoded NUL in the path": f"GET /%00 HTTP/1.1\r\n{HOST}\r\n",
    "above the root": f"GET /../../etc HTTP/1.1\r\n{HOST}\r\n",
    "fragment in the target": f"GET /#b HTTP/1.1\r\n{HOST}\r\n",
    "bad percent-encoding": f"GET /%zz HTTP/1.1\r\n{HOST}\r\n",
    "absolute target of another host": f"GET http://other.test/ HTTP/1.1\r\n{HOST}\r\n",
    "TRACE": f"TRACE / HTTP/1.1\r\n{HOST}\r\n",
    "CONNECT": "CONNECT localhost:80 HTTP/1.1\r\nHost: localhost:80\r\n\r\n",
    "unknown version": f"GET / HTTP/3.7\r\n{HOST}\r\n",
    "no version": "GET /\r\n",
    "garbage": "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
}


@pytest.mark.parametrize("request_bytes", REFUSED.values(), ids=REFUSED.keys())
def test_requests_that_two_servers_could_understand_differently(server: Server, request_bytes: str) -> None:
    """Refused, and the connection is not used for anything after it."""
    with RawConnection(server.url) as connection:
        connection.send(request_bytes)
        answer = connection.response()
        assert answer.status in (400, 405, 501, 505), answer
        if answer.status == 400:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.send(f"GET / HTTP/1.1\r\n{HOST}Connection: close\r\n\r\n")
            assert b"hello" not in connection.rest()
