"""A FastAPI application, over HTTP/1.1 and HTTP/2."""

import asyncio
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import connect

from harness import Server, eventually
from harness.certificate import Certificate


@pytest.fixture(scope="module")
def server(serve_module: Callable[..., Server]) -> Server:
    return serve_module("fastapi_app:app", "--max-body", "50MB", workers=2)


@pytest.fixture(params=[False, True], ids=["h1", "h2"])
def client(request: pytest.FixtureRequest, server: Server, certificate: Certificate) -> httpx.Client:
    return httpx.Client(
        base_url=server.https_url, verify=certificate.context(), http1=not request.param, http2=request.param, timeout=60
    )


def test_validated_json(client: httpx.Client) -> None:
    answer = client.post("/items", json={"name": "nut", "price": 0.5})
    assert (answer.status_code, answer.json()) == (201, {"name": "nut", "price": 0.5})
    assert client.post("/items", json={"name": "nut"}).status_code == 422


def test_dependency_and_thread_pool(client: httpx.Client) -> None:
    assert client.get("/guarded", headers={"x-token": "open"}).json() == {"token": "open"}
    assert client.get("/guarded", headers={"x-token": "wrong"}).status_code == 403


def test_upload(client: httpx.Client) -> None:
    content = bytes(range(256)) * 40_000
    answer = client.post("/upload", files={"file": ("data.bin", content)}).json()
    assert answer == {"name": "data.bin", "length": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def test_lifespan_state(client: httpx.Client) -> None:
    answer = client.get("/state").json()
    assert answer["started_by"] == answer["pid"]


def test_background_task(client: httpx.Client, tmp_path: Path) -> None:
    assert client.get("/later", params={"record": str(tmp_path)}).json() == "answered"
    events = tmp_path / "events"
    eventually(lambda: events.exists() and events.read_text() == "worked\n", "background task")


def test_websocket(server: Server, certificate: Certificate) -> None:
    async def talk() -> None:
        url = server.https_url.replace("https", "wss", 1) + "/echo/garden"
        async with connect(url, ssl=certificate.context()) as socket:
            await socket.send("hello")
            assert json.loads(await socket.recv()) == {"room": "garden", "text": "hello"}

    asyncio.run(asyncio.wait_for(talk(), 60))


def test_api_description(client: httpx.Client) -> None:
    assert "/items" in client.get("/openapi.json").json()["paths"]
