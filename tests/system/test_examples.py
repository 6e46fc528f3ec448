"""The demo applications of examples/, started with their own configuration files."""

import hashlib
import json
from pathlib import Path

import httpx
import pytest
from websockets.sync.client import connect

from harness import Server
from harness.certificate import Certificate
from harness.server import ROOT


@pytest.fixture(params=["demo.toml", "demo-wsgi.toml"])
def demo(request: pytest.FixtureRequest, certificate: Certificate):
    """On a free port, and with the certificate of the tests instead of one made in certs/."""
    name = request.param
    with Server(
        None,
        *("--config", ROOT / "examples" / name),
        *certificate.flags,
        binds=["https://127.0.0.1:0"],
        workers=None,
        cwd=ROOT,
        env={"MONOCEROS_DEV_CERT": "false"},
    ) as server:
        yield name, server


def test_demo(demo, certificate: Certificate) -> None:
    name, server = demo
    with httpx.Client(base_url=server.https_url, verify=certificate.context(), http2=True, timeout=60) as client:
        page = client.get("/")
        assert page.status_code == 200 and "<h1>monoceros</h1>" in page.text
        for asset in ("demo.css", "demo.js", "horn.svg"):
            assert f"/static/{asset}" in page.text
            assert client.get(f"/static/{asset}").content == (ROOT / "examples" / "static" / asset).read_bytes()
        head = client.head("/")
        assert (head.status_code, head.headers["content-length"]) == (200, page.headers["content-length"])
        facts = client.get("/api/facts").json()
        assert facts["worker"] in server.worker_pids()
        assert (facts["protocol"], facts["scheme"]) == ("HTTP/2" if "wsgi" not in name else facts["protocol"], "https")
        body = bytes(range(256)) * 20_000
        answer = client.post("/api/upload", content=body).json()
        assert (answer["bytes"], answer["sha256"]) == (len(body), hashlib.sha256(body).hexdigest())
        assert len(client.get("/api/download?megabytes=5").content) == 5 * 2**20
        with client.stream("GET", "/api/clock") as events:
            line = next(line for line in events.iter_lines() if line.startswith("data: "))
            assert json.loads(line.removeprefix("data: "))["worker"] in server.worker_pids()
        assert client.get("/nothing").status_code == 404
    if "wsgi" not in name:
        url = server.https_url.replace("https", "wss", 1) + "/api/chat"
        with connect(url, ssl=certificate.context()) as socket:
            assert json.loads(socket.recv(30))["event"] == "joined"
            socket.send("hello")
            assert json.loads(socket.recv(30))["text"] == "hello"


def test_pages_load_nothing_from_elsewhere() -> None:
    for file in Path(ROOT / "examples").rglob("*"):
        if file.suffix in (".html", ".css", ".js"):
            assert "://" not in file.read_text().replace("http://www.w3.org/2000/svg", ""), file


def test_welcome_page(certificate: Certificate) -> None:
    flags = [*certificate.flags, "--preload"]
    with (
        Server("monoceros.welcome", *flags, binds=["https://127.0.0.1:0"]) as server,
        httpx.Client(base_url=server.https_url, verify=certificate.context(), http2=True, timeout=60) as client,
    ):
        page = client.get("/")
        assert page.status_code == 200 and "monoceros works here" in page.text
        assert "{{" not in page.text
        assert "<dd>HTTP/2" in page.text and "<dd>yes, HTTPS</dd>" in page.text
        assert client.head("/").headers["content-length"] == page.headers["content-length"]
        assert client.get("/nothing").status_code == 404
        assert client.post("/").status_code == 405
