"""A range that begins at zero: all workers go while nobody asks, and the first request waits for the boot of one."""

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from harness import Server, eventually
from harness.http import Background
from harness.raw import RawConnection
from harness.server import PROGRAM

APPLICATION = """
import os, time
HERE = os.path.dirname(os.path.abspath(__file__))
def exists(name):
    return os.path.exists(os.path.join(HERE, name))
while exists("slow"):
    time.sleep(0.01)
if exists("broken"):
    raise ImportError("the database driver is missing")

async def app(scope, receive, send):
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            pass
    if scope["type"] != "http":
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})
"""
UPGRADE = (
    "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


def nobody_is_there(server: Server) -> None:
    eventually(lambda: not server.worker_pids(), "no worker")


class Site:
    def __init__(self, directory: Path, server: Server) -> None:
        self.directory, self.server = directory, server

    def set(self, name: str, is_there: bool) -> None:
        (self.directory / name).touch() if is_there else (self.directory / name).unlink(missing_ok=True)

    def command(self, *words: object) -> subprocess.CompletedProcess[str]:
        line = [str(PROGRAM), *map(str, words), "--control", str(self.directory / "control.sock")]
        return subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)

    def to_zero(self) -> None:
        """Without the wait for `--idle-timeout`."""
        assert httpx.get(self.server.url, timeout=60).status_code == 200
        assert self.command("scale", "0..9").returncode == 0
        os.kill(self.server.pid, signal.SIGTTOU)
        nobody_is_there(self.server)

    def said(self, pattern: str) -> int:
        return len(re.findall(pattern, self.server.log(), re.MULTILINE))

    def is_ready(self) -> bool:
        return httpx.get(f"{self.server.url}/-/ready").status_code == 200


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("zero")
    (directory / "zero_app.py").write_text(APPLICATION)
    options = (
        *("--workers", "0..3", "--idle-timeout", "1s", "--queue-timeout", "300ms", "--health-path", "/-"),
        *("--check-path", "/check", "--check-interval", "100ms", "--control-socket", directory / "control.sock"),
    )
    with Server("zero_app:app", *options, workers=None, cwd=directory) as server:
        yield Site(directory, server)


def test_all_go_when_nobody_asks_and_a_burst_waits_for_the_boot(site: Site) -> None:
    server = site.server
    assert "starting 1 worker of 0..3" in server.log()
    server.wait_for_log(r"workers: 0 instead of 1 \(nothing to do for 1s; the next request starts one\)")
    nobody_is_there(server)
    assert site.is_ready()
    assert re.search(r"no worker: idle for \d+s, the next request starts one", site.command("status").stdout)
    assert "there is no worker" in site.command("stacks").stdout
    site.set("slow", True)
    with Background(server.url) as clients:
        answers = [clients.get("/") for _ in range(20)]
        server.wait_for_log(r"workers: 1 instead of 0 \(a request waits for it\)")
        # Far beyond --queue-timeout.
        with pytest.raises(TimeoutError):
            answers[0].result(0.6)
        assert server.worker_pids() and site.is_ready()
        site.set("slow", False)
        assert {answer.result().status_code for answer in answers} == {200}
    assert not site.said("workers: [23] instead of")


def test_an_open_websocket_keeps_its_worker(site: Site) -> None:
    with RawConnection(site.server.url) as connection:
        connection.send(UPGRADE)
        assert connection.head().status == 101
        gone = site.said("nothing to do")
        with pytest.raises(AssertionError):
            eventually(lambda: site.said("nothing to do") > gone, "idleness", timeout=1.4)
    eventually(lambda: site.said("nothing to do") > gone, "idleness")


def test_a_boot_that_fails_is_told_and_tried_again(site: Site) -> None:
    server = site.server
    site.to_zero()
    site.set("broken", True)
    with Background(server.url) as clients:
        for answer in [clients.get("/") for _ in range(5)]:
            response = answer.result()
            assert response.status_code == 503 and 1 <= int(response.headers["Retry-After"]) <= 19
    server.wait_for_log(r"no worker: requests get 503; one that comes in [\d.]+m?s or later tries again")
    server.wait_for_log("ImportError: the database driver is missing")
    eventually(site.is_ready, "ready again: only a request can bring a worker")
    site.set("broken", False)
    eventually(lambda: httpx.get(server.url, timeout=60).status_code == 200, "a worker")


def test_new_code_is_proved_though_nobody_asks(site: Site) -> None:
    site.to_zero()
    site.set("broken", True)
    reload = site.command("reload")
    assert reload.returncode != 0 and "the database driver is missing" in reload.stderr
    site.set("broken", False)
    nobody_is_there(site.server)
    assert httpx.get(site.server.url, timeout=60).status_code == 200
    site.to_zero()
    reload = site.command("reload")
    assert reload.returncode == 0 and "serves" in reload.stdout
    assert httpx.get(site.server.url, timeout=60).status_code == 200


def test_who_was_sent_away_is_not_called_by_a_request(site: Site) -> None:
    server = site.server
    assert httpx.get(server.url, timeout=60).status_code == 200
    os.kill(server.pid, signal.SIGWINCH)
    nobody_is_there(server)
    assert not site.is_ready()
    response = httpx.get(server.url, timeout=60)
    assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
    assert not server.worker_pids()
    assert "idle" not in site.command("status").stdout
    assert site.command("scale", "0..3").returncode == 0
    assert httpx.get(server.url, timeout=60).status_code == 200
