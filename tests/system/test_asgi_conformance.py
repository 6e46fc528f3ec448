"""ASGI 3 through the real program: scopes, messages, extensions, lifespan."""

import asyncio
import json
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from harness import Server, eventually
from harness.certificate import Certificate
from harness.http2 import Http2Connection
from harness.raw import RawConnection


@pytest.fixture(scope="module")
def conformance(serve_module) -> Server:
    return serve_module("asgi_conformance:app", binds=("http://127.0.0.1:0", "https://127.0.0.1:0", "unix:{directory}/app.sock"))


@pytest.fixture(scope="module")
def server(serve_module) -> Server:
    return serve_module("plain_asgi:app", "--stream-request", "/echo-stream")


def client_of(server: Server, certificate: Certificate, http2: bool) -> httpx.Client:
    return httpx.Client(
        base_url=server.https_url, verify=certificate.context(), http1=not http2, http2=http2, timeout=30
    )


both_versions = pytest.mark.parametrize("http2", [False, True], ids=["h1", "h2"])


@both_versions
@pytest.mark.parametrize("length", [0, 1, 70_000, 900_000])
def test_http_scope_and_messages(conformance: Server, certificate: Certificate, http2: bool, length: int) -> None:
    with client_of(conformance, certificate, http2) as client:
        for method in ("GET", "POST", "DELETE", "OPTIONS", "PATCH"):
            answer = client.request(method, "/a%20b?x=1", content=bytes(length), headers={"x-expected-length": str(length)})
            assert answer.json()["problems"] == []
            assert answer.json()["scope"]["http_version"] == repr("2" if http2 else "1.1")
            assert answer.json()["scope"]["path"] == "'/a b'"


def test_http_scope_of_http10_and_of_a_unix_socket(conformance: Server) -> None:
    for address in (conformance.url, f"unix:{conformance.socket_path}"):
        with RawConnection(address) as connection:
            connection.send("GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")
            answer = json.loads(connection.response().body)
            assert answer["problems"] == []
            assert answer["scope"]["http_version"] == "'1.0'"


def test_scope_in_detail(conformance: Server) -> None:
    with httpx.Client(base_url=conformance.url, timeout=30) as client:
        scope = client.get("/p%C3%A4th/a%2Fb?q=%C3%A4").json()["scope"]
    assert scope["path"] == "'/päth/a/b'"
    assert scope["raw_path"] == "b'/p%C3%A4th/a%2Fb'"
    assert scope["query_string"] == "b'q=%C3%A4'"
    assert scope["scheme"] == "'http'"
    assert f"'127.0.0.1', {conformance.port()}" in scope["server"]


@pytest.mark.parametrize("secure", [False, True], ids=["ws", "wss"])
def test_websocket_scope_and_messages(conformance: Server, certificate: Certificate, secure: bool) -> None:
    async def talk() -> None:
        url = (conformance.https_url if secure else conformance.url).replace("http", "ws", 1)
        context = certificate.context() if secure else None
        async with connect(f"{url}/a%20b?x=1", ssl=context, subprotocols=["one", "two"]) as socket:
            await socket.send("text")
            await socket.send(b"binary")
            assert json.loads(await socket.recv()) == []

    asyncio.run(asyncio.wait_for(talk(), 60))


def test_what_follows_the_answer(conformance: Server) -> None:
    before = conformance.log().count("| done")
    assert httpx.get(conformance.url, timeout=30).status_code == 200
    eventually(lambda: conformance.log().count("| done") > before, "receive() and send() after the answer returned")
    assert "after the answer: http.disconnect" in conformance.log()
    assert "wrong disconnect" not in conformance.log()
    assert "Traceback" not in conformance.log()


# Extensions


@both_versions
def test_pathsend(server: Server, certificate: Certificate, http2: bool, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(bytes(range(256)) * 10_000)
    with client_of(server, certificate, http2) as client:
        assert client.get("/pathsend", params={"path": str(file)}).content == file.read_bytes()


def test_trailers_on_http1(server: Server) -> None:
    with RawConnection(server.url) as connection:
        connection.send("GET /trailers HTTP/1.1\r\nHost: localhost\r\nTE: trailers\r\n\r\n")
        answer = connection.response()
        assert (answer.body, answer.trailers) == (b"body", [("x-checksum", "abc")])
        # A client that did not ask for them gets the body alone.
        connection.send("GET /trailers HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.response().body == b"body"


def test_trailers_on_http2(server: Server, certificate: Certificate) -> None:
    with Http2Connection(server.https_url, certificate.context()) as connection:
        connection.send(connection.headers(1, [*connection.request_fields("/trailers"), ("te", "trailers")]))
        answer = connection.answer(1)
        assert (answer.body, answer.trailers) == (b"body", [("x-checksum", "abc")])


def test_early_hint(server: Server) -> None:
    """Sent as 103 where the protocol stack can, and never in the way of the answer."""
    with RawConnection(server.url) as connection:
        connection.send("GET /early-hint HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.response().body == b"hinted"


def test_tls_extension(server: Server, certificate: Certificate) -> None:
    with client_of(server, certificate, http2=True) as client:
        tls = client.get("/facts").json()["scope"]["extensions"]["tls"]
    assert tls["tls_version"] in (0x0303, 0x0304)
    assert isinstance(tls["cipher_suite"], int)
    plain = httpx.get(f"{server.url}/facts").json()["scope"]
    assert "tls" not in plain.get("extensions", {})


# Streaming


@pytest.mark.parametrize("http2", [False, True], ids=["h1", "h2"])
def test_stream_is_sent_as_it_is_made(server: Server, certificate: Certificate, http2: bool, tmp_path: Path) -> None:
    with client_of(server, certificate, http2) as client:
        with client.stream("GET", "/steps", params={"record": str(tmp_path), "count": 5}) as answer:
            seen = []
            for line in answer.iter_lines():
                if line:
                    seen.append(line)
                    (tmp_path / f"release-{len(seen)}").touch()
    assert seen == [f"data: {number}" for number in range(5)]


def test_request_is_streamed_where_asked_for(server: Server) -> None:
    """The answer to one part comes before the next part is sent."""
    with RawConnection(server.url) as connection:
        connection.send("POST /echo-stream HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        connection.send("5\r\nfirst\r\n")
        assert connection.head().status == 200
        assert connection.line() == "5"
        assert connection.exactly(7) == b"first\r\n"
        connection.send("6\r\nsecond\r\n0\r\n\r\n")
        assert connection.line() == "6"
        assert connection.exactly(8) == b"second\r\n"
        assert connection.line() == "0"


@both_versions
def test_disconnect_is_delivered(server: Server, certificate: Certificate, http2: bool, tmp_path: Path) -> None:
    with client_of(server, certificate, http2) as client:
        with client.stream("GET", "/until-disconnect", params={"record": str(tmp_path)}) as answer:
            assert next(answer.iter_lines()) == "first"
    events = tmp_path / "events"
    eventually(lambda: events.exists() and events.read_text() == "http.disconnect\n", "http.disconnect in the application")


def test_work_after_the_answer(server: Server, tmp_path: Path) -> None:
    assert httpx.get(f"{server.url}/background", params={"record": str(tmp_path)}, timeout=30).text == "answered"
    # The worker answers others while the background work goes on.
    assert httpx.get(server.url, timeout=30).text == "hello"
    (tmp_path / "release").touch()
    eventually(lambda: "worked" in (tmp_path / "events").read_text(), "work after the answer")


# WebSocket


def websocket_url(server: Server, path: str) -> str:
    return server.url.replace("http", "ws", 1) + path


def test_websocket_denial(server: Server) -> None:
    async def talk() -> None:
        for path, status, body in (("/refuse", 403, None), ("/deny", 401, b"ticket, please")):
            with pytest.raises(InvalidStatus) as refused:
                await connect(websocket_url(server, path))
            assert refused.value.response.status_code == status
            if body:
                assert refused.value.response.body == body
                assert refused.value.response.headers["x-reason"] == "no ticket"

    asyncio.run(asyncio.wait_for(talk(), 60))


def test_websocket_close_codes(server: Server, tmp_path: Path) -> None:
    async def talk() -> None:
        async with connect(websocket_url(server, f"/?record={tmp_path}"), subprotocols=["chat"]) as socket:
            assert socket.subprotocol == "chat"
            assert socket.response.headers["x-worker"] == "yes"
            await socket.send("close")
            with pytest.raises(ConnectionClosed) as closed:
                await socket.recv()
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4001, "asked for it")
        async with connect(websocket_url(server, f"/?record={tmp_path}")) as socket:
            await socket.close(4444)
        socket = await connect(websocket_url(server, f"/?record={tmp_path}"))
        # Gone without a close frame: 1006.
        socket.transport.abort()

    asyncio.run(asyncio.wait_for(talk(), 60))
    events = tmp_path / "events"
    eventually(
        lambda: events.exists() and sorted(events.read_text().splitlines()) == ["disconnect 1006", "disconnect 4444"],
        "close codes in the application",
    )


@pytest.mark.parametrize(
    "missing,status",
    [("Upgrade: websocket\r\n", None), ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", 400), ("Sec-WebSocket-Version: 13\r\n", (400, 426))],
    ids=["no Upgrade", "no key", "no version"],
)
def test_broken_websocket_handshake(server: Server, missing: str, status) -> None:
    head = (
        "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    )
    with RawConnection(server.url) as connection:
        connection.send(head.replace(missing, "") + "\r\n")
        answer = connection.response()
        if status is None:
            assert answer.body == b"hello"
        else:
            assert answer.status in (status if isinstance(status, tuple) else (status,))


@pytest.mark.parametrize(
    "frame,code",
    [
        (b"\x81\x05hello", 1002),  # not masked
        (b"\xc1\x80\0\0\0\0", 1002),  # a reserved bit without the extension
        (b"\x83\x80\0\0\0\0", 1002),  # reserved opcode
        (b"\x09\x80\0\0\0\0", 1002),  # fragmented ping
        (b"\x80\x80\0\0\0\0", 1002),  # continuation of nothing
        (b"\x81\x82\0\0\0\0\xc3\x28", 1007),  # not UTF-8
        (b"\x88\x81\0\0\0\0\x03", 1002),  # close code of one byte
    ],
)
def test_websocket_protocol_errors(server: Server, frame: bytes, code: int) -> None:
    """RFC 6455 §7.4.1: answered with the close code, then the connection ends."""
    with RawConnection(server.url) as connection:
        connection.send(
            "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        head = connection.head()
        assert head.status == 101
        assert head.header("sec-websocket-accept") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        connection.send(frame)
        first, length = connection.exactly(2)
        assert first == 0x88
        assert int.from_bytes(connection.exactly(length & 0x7F)[:2], "big") == code


# Lifespan


def test_application_without_lifespan_is_served() -> None:
    with Server("loading:asgi_instance") as server:
        assert httpx.get(server.url, timeout=30).text == "asgi instance"


def test_each_worker_has_its_own_lifespan() -> None:
    with Server("plain_asgi:app", workers=3) as server:
        workers = server.wait_for_workers(3)
        for _ in range(20):
            facts = httpx.get(f"{server.url}/facts", timeout=30).json()
            assert facts["pid"] in workers
            assert facts["started"] == [facts["pid"]]
            assert facts["scope"]["state"] == {"started_by": facts["pid"]}
