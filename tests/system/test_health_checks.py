"""Active health checks: a worker that fails gets nothing until it is well again, or is replaced."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from harness import Server, eventually
from harness.http import Background
from harness.server import PROGRAM

WSGI = """
import os, time
HERE = os.path.dirname(os.path.abspath(__file__))
def exists(name):
    return os.path.exists(os.path.join(HERE, name))
def status(path):
    own = str(os.getpid())
    if path == "/health":
        while exists("hang-" + own):
            time.sleep(0.01)
        return "500 Sick" if exists("sick-" + own) or exists("all-sick") else "200 OK"
    if path == "/hold":
        open(os.path.join(HERE, "held-" + own), "w").close()
        while not exists("release"):
            time.sleep(0.01)
    return "200 OK"
def app(environ, start_response):
    start_response(status(environ["PATH_INFO"]), [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
"""
ASGI = (
    WSGI.replace("def status", "async def status").replace("time.sleep", "await asyncio.sleep").replace("os, time", "os, asyncio")
    + """
async def app(scope, receive, send):
    code = int((await status(scope["path"]))[:3])
    await send({"type": "http.response.start", "status": code, "headers": []})
    await send({"type": "http.response.body", "body": str(os.getpid()).encode()})
"""
)
QUICK = ("--check-path", "/health", "--check-interval", "100ms", "--check-rise", "2", "--check-fall", "2")
INTERFACES = pytest.mark.parametrize("code", [WSGI, ASGI], ids=["wsgi", "asgi"])


class Site:
    def __init__(self, directory: Path, server: Server) -> None:
        self.directory, self.server = directory, server

    def answering(self) -> set[int]:
        """The workers that answer now."""
        with Background(self.server.url) as background:
            return {int(answer.result(60).text) for answer in [background.get("/") for _ in range(20)]}

    def states(self) -> dict[int, str]:
        words = [str(PROGRAM), "status", "--json", "--control", str(self.directory / "control.sock")]
        told = json.loads(subprocess.run(words, capture_output=True, text=True, timeout=60, check=True).stdout)
        return {worker["pid"]: worker["state"] for worker in told["workers"]}

    def mark(self, what: str) -> Path:
        path = self.directory / what
        path.touch()
        return path


@contextmanager
def serve(directory: Path, code: str, *arguments: object, workers: int = 2) -> Iterator[Site]:
    (directory / "site_app.py").write_text(code)
    flags = [*QUICK, "--control-socket", directory / "control.sock", *arguments]
    with Server("site_app:app", *flags, workers=workers, cwd=directory) as server:
        server.wait_for_workers(workers)
        yield Site(directory, server)


@INTERFACES
def test_a_sick_worker_gets_nothing_until_it_is_well(code: str, tmp_path: Path) -> None:
    with serve(tmp_path, code, "--check-interval", "1s", "--access-log", "-") as site:
        well, sick = site.server.worker_pids()
        mark = site.mark(f"sick-{sick}")
        site.server.wait_for_log(
            r"worker \d+ gets no more requests: GET /health failed 2 times in a row \(--check-path\), "
            r"the last one was answered with status 500"
        )
        assert site.states() == {well: "serving", sick: "ejected"}
        assert site.answering() == {well}
        mark.unlink()
        site.server.wait_for_log(r"worker \d+ gets requests again: GET /health was answered well")
        assert site.states() == {well: "serving", sick: "serving"}
        assert "/health" not in site.server.output()


@INTERFACES
def test_a_check_that_is_not_answered_in_time_has_failed(code: str, tmp_path: Path) -> None:
    # Of a single thread, too: the one that hangs in a check counts as failing until it comes back.
    with serve(tmp_path, code, "--threads", "1", "--check-interval", "1s", "--check-timeout", "200ms") as site:
        well, sick = site.server.worker_pids()
        mark = site.mark(f"hang-{sick}")
        site.server.wait_for_log(r"gets no more requests: GET /health .*the last one was not answered within 200")
        assert site.answering() == {well}
        mark.unlink()
        site.server.wait_for_log(r"gets requests again")


def test_when_all_are_sick_all_are_used(tmp_path: Path) -> None:
    with serve(tmp_path, WSGI) as site:
        pids = set(site.server.worker_pids())
        mark = site.mark("all-sick")
        site.server.wait_for_log(r"every worker fails GET /health: they get requests all the same")
        eventually(lambda: set(site.states().values()) == {"ejected"}, "both ejected")
        eventually(lambda: site.answering() <= pids, "answers")
        mark.unlink()
        eventually(lambda: set(site.states().values()) == {"serving"}, "both well")
        # Twelve intervals and more have passed for nobody: the workers are the same.
        assert set(site.server.worker_pids()) == pids


def test_a_busy_worker_is_not_sick(tmp_path: Path) -> None:
    with serve(tmp_path, WSGI, "--threads", "1", "--check-timeout", "100ms", workers=1) as site:
        (pid,) = site.server.worker_pids()
        with Background(site.server.url) as background:
            held = background.get("/hold")
            eventually((tmp_path / f"held-{pid}").exists, "the worker busy")
            # It would fail if it was asked; for longer than two intervals it is not.
            site.mark("all-sick")
            with pytest.raises(httpx.ReadTimeout):
                httpx.get(site.server.url, timeout=1)
            assert site.states() == {pid: "serving"}
            (tmp_path / "all-sick").unlink()
            site.mark("release")
            assert held.result(60).text == str(pid)
        assert "gets no more requests" not in site.server.log()


def test_whoever_is_sick_for_long_is_replaced(tmp_path: Path) -> None:
    with serve(tmp_path, WSGI) as site:
        well, sick = site.server.worker_pids()
        site.mark(f"sick-{sick}")
        site.server.wait_for_log(r"worker \d+ is replaced: it goes on failing its health checks \(--check-path\)")
        pids = site.server.wait_for_workers(2, other_than=[sick])
        assert well in pids
        eventually(lambda: site.states().get(sick) is None, "the end of the sick one")
        os.kill(well, 0)
