"""A range of workers: their number follows the load, and nobody gets an error for it."""

import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from harness import Server, eventually
from harness.http import Background
from harness.server import PROGRAM

CODE = """
import time
def app(environ, start_response):
    if environ["PATH_INFO"] == "/slow":
        time.sleep(0.2)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]
"""

ASGI_CODE = """
import time
async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    end = time.process_time() + (0.1 if scope["path"] == "/slow" else 0)
    while time.process_time() < end:
        pass
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "site_app.py").write_text(CODE)
    (tmp_path / "asgi_app.py").write_text(ASGI_CODE)
    return tmp_path


def ranged(site: Path, workers: str, *arguments: object, app: str = "site_app:app") -> Server:
    options = ("--workers", workers, "--control-socket", site / "control.sock", *arguments)
    return Server(app, *options, workers=None, cwd=site)


def command(site: Path, *words: object) -> subprocess.CompletedProcess[str]:
    line = [str(PROGRAM), *map(str, words), "--control", str(site / "control.sock")]
    return subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)


def status(site: Path) -> dict:
    return json.loads(command(site, "status", "--json").stdout)


def keep_busy(server: Server, clients: Background, at_once: int, until: threading.Event) -> list:
    """Clients that ask one slow request after the other; what they were answered."""

    def ask() -> Iterator[int]:
        with httpx.Client(base_url=server.url, timeout=60) as client:
            while not until.is_set():
                yield client.get("/slow").status_code

    return [clients._threads.submit(lambda: list(ask())) for _ in range(at_once)]


@pytest.mark.parametrize("app", ["site_app:app", "asgi_app:app"], ids=["wsgi", "asgi"])
def test_load_brings_workers_and_idleness_takes_them_away(site: Path, app: str) -> None:
    with ranged(site, "1..3", "--scale-down-after", "1s", app=app) as server, Background(server.url) as clients:
        assert len(server.worker_pids()) == 1
        done = threading.Event()
        try:
            answers = keep_busy(server, clients, 8, done)
            why = r"requests waited \d+ ms" if app.startswith("site") else r"they needed \d\.\d CPUs"
            server.wait_for_log(rf"workers: [23] instead of [12] \({why}\)")
            eventually(lambda: len(server.worker_pids()) >= 2, "a second worker")
        finally:
            done.set()
        statuses = [status for answer in answers for status in answer.result()]
        assert statuses and set(statuses) == {200}
        server.wait_for_log(r"workers: 1 instead of 2 \(one fewer would have been enough for \d+s\)")
        server.wait_for_workers(1)
        assert httpx.get(server.url).text == "hello"


def test_a_plain_number_stays(site: Path) -> None:
    with ranged(site, "1", "--scale-down-after", "1s") as server, Background(server.url) as clients:
        answers = [clients.get("/slow") for _ in range(15)]
        assert {answer.result().status_code for answer in answers} == {200}
        assert "instead of" not in server.log()


def test_commands_and_signals_change_the_range(site: Path) -> None:
    with ranged(site, "1..2", "--scale-down-after", "1h") as server:
        assert status(site)["workers_range"] == "1..2"
        os.kill(server.pid, signal.SIGTTIN)
        server.wait_for_log("workers: 2 instead of 1$")
        assert status(site)["workers_range"] == "2..3"
        os.kill(server.pid, signal.SIGTTOU)
        server.wait_for_log("workers: 1 instead of 2$")
        assert status(site)["workers_range"] == "1..2"
        assert "workers wanted: 3" in command(site, "scale", 3).stdout
        server.wait_for_workers(3)
        assert "workers_range" not in status(site)
        assert "workers wanted: 4..6" in command(site, "scale", "4..6").stdout
        server.wait_for_workers(4)
        assert "4 workers of 4..6, as the load needs" in command(site, "status").stdout
        for wrong in ("6..4", "0..2000", "many"):
            assert command(site, "scale", wrong).returncode != 0
        assert status(site)["workers_range"] == "4..6"


def test_all_who_were_sent_away_stay_away_until_somebody_asks(site: Path) -> None:
    with ranged(site, "2..3", "--queue-timeout", "60s") as server, Background(server.url) as clients:
        os.kill(server.pid, signal.SIGWINCH)
        server.wait_for_log("all workers finish and go")
        eventually(lambda: not server.worker_pids(), "no worker")
        waiting = [clients.get("/slow") for _ in range(5)]
        # Longer than it takes to scale up.
        eventually(lambda: status(site)["queue"] == 5, "the queue")
        with pytest.raises(TimeoutError):
            waiting[0].result(2.5)
        assert not server.worker_pids()
        os.kill(server.pid, signal.SIGHUP)
        assert {answer.result().status_code for answer in waiting} == {200}
        eventually(lambda: len(server.worker_pids()) >= 2, "the workers")


def test_the_range_can_be_configured_anew(site: Path) -> None:
    (site / "monoceros.toml").write_text('[server]\nworkers = "1..2"\n')
    options = ("--config", site / "monoceros.toml", "--control-socket", site / "control.sock")
    with Server("site_app:app", *options, workers=None, cwd=site) as server:
        assert status(site)["workers_range"] == "1..2"
        (site / "monoceros.toml").write_text('[server]\nworkers = "3..5"\n')
        assert command(site, "reload").returncode == 0
        eventually(lambda: status(site).get("workers_range") == "3..5", "the new range")
        server.wait_for_workers(3)
        (site / "monoceros.toml").write_text("[server]\nworkers = 2\n")
        assert command(site, "reload").returncode == 0
        server.wait_for_workers(2)
        assert "workers_range" not in status(site)
