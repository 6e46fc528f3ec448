"""A Starlette application: lifespan state, WebSocket, server-sent events, background task, disconnect, uploads."""

import asyncio
import hashlib
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import httpx
import pytest
import websockets
from websockets.asyncio.client import connect
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory, PerMessageDeflate

from harness import Server, eventually
from harness.certificate import Certificate
from harness.curl import NAMES, curl
from harness.files import make_file, sha256_of_blocks

BLOCK = bytes(range(256)) * 1024


@pytest.fixture(scope="module")
def server(serve_module: Callable[..., Server]) -> Server:
    return serve_module("starlette_app:app", "--max-body", "100MB", workers=2)


@pytest.fixture(params=[False, True], ids=["h1", "h2"])
def client(request: pytest.FixtureRequest, server: Server, certificate: Certificate) -> httpx.Client:
    return httpx.Client(
        base_url=server.https_url, verify=certificate.context(), http1=not request.param, http2=request.param, timeout=60
    )


def websocket_url(server: Server, secure: bool, path: str = "/echo") -> str:
    return (server.https_url if secure else server.url).replace("http", "ws", 1) + path


def events_in(directory: Path) -> list[str]:
    file = directory / "events"
    return file.read_text().split() if file.exists() else []


def test_lifespan_state_is_that_of_the_worker(client: httpx.Client) -> None:
    """The state is made once per worker and shared by its requests."""
    counts: dict[int, int] = {}
    for _ in range(20):
        answer = client.get("/state").json()
        assert answer["started_by"] == answer["pid"]
        assert answer["count"] > counts.get(answer["pid"], 0)
        counts[answer["pid"]] = answer["count"]


def test_what_the_application_sees(server: Server, client: httpx.Client) -> None:
    answer = client.get("/facts?q=ä").json()
    assert answer["url"] == f"{server.https_url}/facts?q=%C3%A4"
    assert answer["client"][0] == "127.0.0.1"
    assert isinstance(answer["client"][1], int)


def test_events_arrive_one_by_one(client: httpx.Client, tmp_path: Path) -> None:
    """Event n+1 is made only after the client has seen event n, so nothing on the way can have buffered."""
    with client.stream("GET", "/events", params={"record": str(tmp_path), "count": 5}) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        seen = []
        for line in answer.iter_lines():
            if line.startswith("data: "):
                seen.append(line)
                (tmp_path / f"release-{len(seen)}").touch()
    assert seen == [f"data: event {number}" for number in range(5)]


def test_background_task_runs_after_the_answer(client: httpx.Client, tmp_path: Path) -> None:
    answer = client.get("/background", params={"record": str(tmp_path)})
    assert answer.text == "answered"
    assert events_in(tmp_path) == []
    (tmp_path / "release").touch()
    eventually(lambda: events_in(tmp_path) == ["worked"], "background task")


@pytest.mark.parametrize("http2", [False, True], ids=["h1", "h2"])
def test_disconnect_is_delivered(server: Server, certificate: Certificate, tmp_path: Path, http2: bool) -> None:
    async def give_up() -> None:
        async with httpx.AsyncClient(verify=certificate.context(), http1=not http2, http2=http2, timeout=60) as client:
            request = asyncio.create_task(
                client.get(f"{server.https_url}/disconnect", params={"record": str(tmp_path)})
            )
            while "entered" not in events_in(tmp_path):
                await asyncio.sleep(0.01)
            request.cancel()
            await asyncio.gather(request, return_exceptions=True)

    asyncio.run(asyncio.wait_for(give_up(), 60))
    eventually(lambda: events_in(tmp_path) == ["entered", "disconnected"], "disconnect seen by the application")


def test_upload_and_download(client: httpx.Client, tmp_path: Path) -> None:
    source = tmp_path / "source"
    length = 20_000_000
    checksum = make_file(source, length)
    answer = client.put("/upload", content=source.read_bytes())
    assert answer.json() == {"length": length, "sha256": checksum}
    assert hashlib.sha256(client.get(f"/download/{length}").content).hexdigest() == sha256_of_blocks(length, BLOCK)


@pytest.mark.parametrize("http", ["h1", "h2"])
def test_upload_with_curl(server: Server, certificate: Certificate, http: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    checksum = make_file(source, 20_000_000)
    answer = curl(f"{server.https_url}/upload", "--upload-file", source, http=http, ca=certificate.certificate)
    assert (answer.status, answer.version) == (200, NAMES[http])
    assert checksum.encode() in answer.body


def test_aiohttp_form_upload_and_stream(server: Server, certificate: Certificate, tmp_path: Path) -> None:
    content = bytes(range(256)) * 20_000

    async def talk() -> None:
        connector = aiohttp.TCPConnector(ssl=certificate.context())
        async with aiohttp.ClientSession(server.https_url, connector=connector) as session:
            form = aiohttp.FormData()
            form.add_field("file", content, filename="data.bin")
            async with session.post("/form", data=form) as answer:
                assert (await answer.json())["sha256"] == hashlib.sha256(content).hexdigest()

            async def parts() -> AsyncIterator[bytes]:
                for start in range(0, len(content), 100_003):
                    yield content[start : start + 100_003]

            async with session.put("/upload", data=parts()) as answer:
                assert (await answer.json())["length"] == len(content)

    asyncio.run(asyncio.wait_for(talk(), 60))


both_schemes = pytest.mark.parametrize("secure", [False, True], ids=["ws", "wss"])


def context_for(certificate: Certificate, secure: bool) -> ssl.SSLContext | None:
    return certificate.context() if secure else None


@both_schemes
def test_websocket_with_websockets(server: Server, certificate: Certificate, secure: bool, tmp_path: Path) -> None:
    async def talk() -> None:
        url = websocket_url(server, secure, f"/echo?record={tmp_path}")
        async with connect(url, ssl=context_for(certificate, secure), subprotocols=["other", "echo"]) as socket:
            assert socket.subprotocol == "echo"
            messages = ["", "hello", "ä" * 70_000, b"", b"\0\xff" * 200_000, "x" * 125, "x" * 126, "x" * 65_536]
            for message in messages:
                await socket.send(message)
                assert await socket.recv() == message
            # Sent in fragments, received as one message.
            await socket.send(["frag", "men", "ted"])
            assert await socket.recv() == "fragmented"
            # A ping of the client is answered.
            await asyncio.wait_for(await socket.ping(b"are you there"), 30)
            await socket.close(4000, "enough")

    asyncio.run(asyncio.wait_for(talk(), 60))
    eventually(lambda: events_in(tmp_path) == ["disconnect", "4000"], "close code seen by the application")


@both_schemes
def test_websocket_with_aiohttp(server: Server, certificate: Certificate, secure: bool) -> None:
    async def talk() -> None:
        connector = aiohttp.TCPConnector(ssl=context_for(certificate, secure) or False)
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.ws_connect(websocket_url(server, secure), compress=15, protocols=["echo"]) as socket,
        ):
            assert socket.protocol == "echo"
            assert socket.compress, "permessage-deflate was offered and should have been taken"
            for number in range(100):
                await socket.send_str(f"message {number} " * 50)
            for number in range(100):
                assert await socket.receive_str() == f"message {number} " * 50
            await socket.send_bytes(b"\0" * 1_000_000)
            assert await socket.receive_bytes() == b"\0" * 1_000_000

    asyncio.run(asyncio.wait_for(talk(), 60))


def test_websocket_compression_is_negotiated_and_can_be_declined(server: Server) -> None:
    async def talk() -> None:
        url = websocket_url(server, secure=False)
        for extension, expected in (
            (ClientPerMessageDeflateFactory(), True),
            (ClientPerMessageDeflateFactory(server_no_context_takeover=True, client_no_context_takeover=True), True),
            (ClientPerMessageDeflateFactory(server_max_window_bits=10, client_max_window_bits=True), True),
            (None, False),
        ):
            options = {"compression": None} if extension is None else {"extensions": [extension]}
            async with connect(url, **options) as socket:
                compressed = any(isinstance(found, PerMessageDeflate) for found in socket.protocol.extensions)
                # A server may decline small windows; what it accepts must work.
                if expected and not getattr(extension, "server_max_window_bits", None):
                    assert compressed
                if not expected:
                    assert not compressed
                for word in ("one " * 10_000, "two " * 10_000, ""):
                    await socket.send(word)
                    assert await socket.recv() == word

    asyncio.run(asyncio.wait_for(talk(), 60))


def test_an_unknown_websocket_path_is_refused_before_the_handshake(server: Server) -> None:
    async def talk() -> None:
        with pytest.raises(websockets.InvalidStatus) as refused:
            await connect(websocket_url(server, secure=False, path="/nowhere"))
        assert refused.value.response.status_code in (403, 404)

    asyncio.run(asyncio.wait_for(talk(), 60))


def test_many_websockets_at_once(server: Server) -> None:
    async def one(number: int) -> None:
        async with connect(websocket_url(server, secure=False), open_timeout=60) as socket:
            for turn in range(5):
                await socket.send(f"{number}/{turn}")
                assert await socket.recv() == f"{number}/{turn}"

    async def all_of_them() -> None:
        await asyncio.gather(*(one(number) for number in range(100)))

    asyncio.run(asyncio.wait_for(all_of_them(), 120))
