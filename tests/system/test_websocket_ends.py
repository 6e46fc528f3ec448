"""How WebSockets end: with the client, with the server, or with an application that takes nothing."""

import base64
import signal
import struct
from pathlib import Path

import pytest

from harness import Server, eventually
from harness.raw import RawConnection, exchange

APPLICATION = """
import asyncio, os

def record(text):
    with open("events", "a") as file:
        file.write(text + "\\n")

async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"hello"})
    if scope["type"] != "websocket":
        return
    await receive()
    if scope["path"] == "/late":
        record("entered")
        while not os.path.exists("release"):
            await asyncio.sleep(0.01)
    subprotocol = "never-offered" if scope["path"] == "/subprotocol" else None
    await send({"type": "websocket.accept", "subprotocol": subprotocol})
    if scope["path"] == "/only-sends":
        while True:
            await send({"type": "websocket.send", "text": "tick"})
            await asyncio.sleep(0.1)
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            record(f"disconnect {message['code']}")
            return
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "sockets.py").write_text(APPLICATION)
    return tmp_path


def open_websocket(connection: RawConnection, path: str) -> int:
    send_handshake(connection, path)
    return connection.head().status


def send_handshake(connection: RawConnection, path: str) -> None:
    key = base64.b64encode(bytes(16)).decode()
    connection.send(
        f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
    )


def test_a_client_that_left_frees_an_application_that_takes_nothing(directory: Path) -> None:
    with Server("sockets:app", "--worker-concurrency", "1", cwd=directory) as server:
        with RawConnection(server.url) as connection:
            assert open_websocket(connection, "/only-sends") == 101
            connection.socket.settimeout(1)
            message = b"\x82\xfe" + struct.pack("!H", 60_000) + bytes(60_004)
            # Far more than may wait anywhere: at some point the client is not read any more.
            with pytest.raises(TimeoutError):
                connection.send(message * 1000)
        # 503 while the application may still take the last messages, within the time-out of a close.
        eventually(lambda: status_of(server) == 200, "a worker that is free again", timeout=60)


def status_of(server: Server) -> int:
    return exchange(server.url, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").status


def test_a_stop_ends_websockets_at_once_with_1012(directory: Path) -> None:
    with (
        Server("sockets:app", "--graceful-timeout", "30", cwd=directory) as server,
        RawConnection(server.url) as connection,
    ):
        assert open_websocket(connection, "/receives") == 101
        assert server.stop() < 10
        assert connection.rest() == b"\x88\x02\x03\xf4"
        events = directory / "events"
        assert (
            eventually(lambda: events.exists() and events.read_text(), "the application was told")
            == "disconnect 1012\n"
        )


def test_a_handshake_during_a_stop_is_answered_and_the_websocket_ended(directory: Path) -> None:
    with (
        Server("sockets:app", "--graceful-timeout", "30", cwd=directory) as server,
        RawConnection(server.url) as connection,
        RawConnection(server.url) as idle,
    ):
        idle.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert idle.response().body == b"hello"
        send_handshake(connection, "/late")
        eventually((directory / "events").exists, "the handshake in the application")
        server.process.send_signal(signal.SIGTERM)
        # The end of an idle connection shows that the stop has begun.
        assert idle.is_closed()
        (directory / "release").touch()
        assert connection.head().status == 101
        assert connection.rest() == b"\x88\x02\x03\xf4"
        assert server.stop() < 4


def test_a_subprotocol_that_was_not_offered_is_logged(directory: Path) -> None:
    with Server("sockets:app", cwd=directory) as server, RawConnection(server.url) as connection:
        assert open_websocket(connection, "/subprotocol") == 500
        server.wait_for_log(r"subprotocol that the client did not offer.*never-offered.*at /subprotocol")
