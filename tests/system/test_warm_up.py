"""Warm-up: a new worker answers a few requests before it counts as ready."""

import os
import signal
import time
from pathlib import Path

import httpx
import pytest

from harness import Server, eventually, run_to_end
from harness.server import APPS

WSGI = '''
import os, time
{extra}
def app(environ, start_response):
    note(environ["PATH_INFO"], environ["QUERY_STRING"], environ["HTTP_USER_AGENT"], environ["REMOTE_ADDR"], environ["HTTP_HOST"])
    start_response(status(environ["PATH_INFO"]), [("Content-Type", "text/plain")])
    return [b"version " + VERSION]
'''
ASGI = '''
import os, time
{extra}
async def app(scope, receive, send):
    assert scope["type"] == "http"
    headers = dict(scope["headers"])
    agent, host = headers[b"user-agent"].decode(), headers[b"host"].decode()
    note(scope["path"], scope["query_string"].decode(), agent, scope["client"][0], host)
    code = int(status(scope["path"])[:3])
    await send({{"type": "http.response.start", "status": code, "headers": []}})
    await send({{"type": "http.response.body", "body": b"version " + VERSION}})
'''
NOTES = '''
VERSION = b"{version}"
def note(*words):
    descriptor = os.open({notes!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, (str(os.getpid()) + " " + " ".join(words) + "\\n").encode())
    os.close(descriptor)
def status(path):
    if path == "/hang":
        time.sleep(60)
    return {{"/moved": "301 Moved", "/broken": "503 Unavailable"}}.get(path, "200 OK")
'''
INTERFACES = pytest.mark.parametrize("code", [WSGI, ASGI], ids=["wsgi", "asgi"])


class Site:
    def __init__(self, directory: Path, code: str) -> None:
        self.directory, self.code, self.notes = directory, code, directory / "notes"
        self.write(1)

    def write(self, version: int, extra: str = "") -> None:
        fresh = self.directory / "fresh.txt"
        fresh.write_text(self.code.format(extra=NOTES.format(version=version, notes=str(self.notes)) + extra))
        os.utime(fresh, (version, version))
        fresh.rename(self.directory / "site_app.py")

    def noted(self) -> list[str]:
        return self.notes.read_text().splitlines() if self.notes.exists() else []

    def serve(self, *arguments: object, workers: int = 1) -> Server:
        return Server(
            "site_app:app", *arguments, workers=workers, cwd=self.directory, env={"PYTHONDONTWRITEBYTECODE": "1"}
        )


@INTERFACES
def test_every_worker_warms_up_before_it_serves(code: str, tmp_path: Path) -> None:
    site = Site(tmp_path, code)
    flags = ["--warm-up", "/moved?a=b", "--warm-up", "/second", "--access-log", "-"]
    with site.serve(*flags, workers=2) as server:
        pids = server.wait_for_workers(2)
        facts = "monoceros-probe 127.0.0.1 localhost"
        eventually(lambda: server.log().count(" ready (pid") == 2, "both workers ready")
        for pid in pids:
            own = [line for line in site.noted() if line.startswith(f"{pid} ")]
            assert own == [f"{pid} /moved a=b {facts}", f"{pid} /second  {facts}"]
        os.kill(pids[0], signal.SIGKILL)
        server.wait_for_workers(2, other_than=pids[:1])
        eventually(lambda: server.log().count(" ready (pid") == 3, "the third worker ready")
        assert len(site.noted()) == 6
        assert httpx.get(server.url).text == "version 1"
        server.stop()
        assert "/second" not in server.output()


@INTERFACES
def test_a_first_start_that_fails_to_warm_up_ends_the_program(code: str, tmp_path: Path) -> None:
    Site(tmp_path, code)
    finished = run_to_end("site_app:app", "--bind", "127.0.0.1:0", "--workers", "2", "--warm-up", "/broken", cwd=tmp_path)
    assert finished.code == 4
    assert "error: the warm-up request GET /broken was answered with status 503" in finished.errors
    assert finished.leftovers == []


def test_an_application_that_raises_does_not_warm_up() -> None:
    finished = run_to_end("plain_wsgi:app", "--bind", "127.0.0.1:0", "--warm-up", "/raises", cwd=APPS)
    assert finished.code == 4
    assert "the warm-up request GET /raises" in finished.errors


def test_a_warm_up_has_the_time_of_the_boot(tmp_path: Path) -> None:
    """With a clock: that is what it is about. `--timeout` is for clients."""
    Site(tmp_path, WSGI)
    begun = time.monotonic()
    flags = ["--warm-up", "/hang", "--boot-timeout", "3s", "--timeout", "1s", "--workers", "1"]
    finished = run_to_end("site_app:app", "--bind", "127.0.0.1:0", *flags, cwd=tmp_path)
    assert finished.code == 4
    assert "the warm-up request GET /hang was not answered within 3s (--boot-timeout)" in finished.errors
    assert time.monotonic() - begun > 2
    assert finished.leftovers == []


@INTERFACES
def test_a_reload_that_fails_to_warm_up_changes_nothing(code: str, tmp_path: Path) -> None:
    site = Site(tmp_path, code)
    control = tmp_path / "control.sock"
    with site.serve("--warm-up", "/", "--control-socket", control, workers=2) as server:
        before = server.wait_for_workers(2)
        # One that is forked and has not imported the code yet would import the next version.
        for worker in (1, 2):
            server.wait_for_log(f"worker {worker} ready")
        site.write(2, extra='status = lambda path: "500 Broken"\n')
        reload = run_to_end("reload", "--control", control, python=None)
        assert reload.code != 0
        assert "nothing has changed: the warm-up request GET / was answered with status 500" in reload.errors
        assert httpx.get(server.url).text == "version 1"
        eventually(lambda: server.worker_pids() == before, "the old workers alone")
        site.write(3)
        assert run_to_end("reload", "--control", control, python=None).code == 0
        assert httpx.get(server.url).text == "version 3"
