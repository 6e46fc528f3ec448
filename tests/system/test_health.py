"""Live, ready, status: answered by the front itself."""

import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from harness import Server, eventually
from harness.server import PROGRAM


def admin_url(server: Server) -> str:
    return server.wait_for_log(r"for operators: (\S+)/-/status")[1]


def test_admin_listener_and_health_path(tmp_path: Path) -> None:
    flags = ["--admin-bind", "127.0.0.1:0", "--health-path", "/-", "--access-log", "-"]
    with Server("plain_wsgi:app", *flags, workers=2) as server:
        server.wait_for_workers(2)
        admin = admin_url(server)
        eventually(lambda: httpx.get(f"{admin}/-/status").json()["serving"] == 2, "two workers")
        for base in (admin, server.url):
            assert (httpx.get(f"{base}/-/live").status_code, httpx.get(f"{base}/-/live").text) == (200, "alive\n")
            ready = httpx.get(f"{base}/-/ready")
            assert (ready.status_code, ready.text, ready.headers["cache-control"]) == (200, "ready\n", "no-store")
            head = httpx.head(f"{base}/-/ready")
            assert head.status_code == 200 and head.text == ""
            posted = httpx.post(f"{base}/-/ready")
            assert posted.status_code == 405 and posted.headers["allow"] == "GET, HEAD"
        status = httpx.get(f"{admin}/-/status").json()
        assert status["ready"] is True and len(status["workers"]) == 2
        # What the server does is not for everybody; the rest of the path is the application's.
        assert httpx.get(f"{server.url}/-/status").status_code == 404
        assert httpx.get(f"{admin}/").status_code == 404 and httpx.get(f"{admin}/pid").status_code == 404
        server.stop()
        assert "/-/live" not in server.output() and "/-/status" in server.output()


def test_a_busy_worker_is_not_asked(tmp_path: Path) -> None:
    with Server("plain_wsgi:app", "--admin-bind", "127.0.0.1:0", workers=1) as server:
        admin = admin_url(server)
        with ThreadPoolExecutor() as pool:
            asked = {"seconds": "1", "record": str(tmp_path)}
            slow = pool.submit(httpx.get, f"{server.url}/slow", params=asked, timeout=30)
            eventually((tmp_path / "entered").exists, "the slow request in the application")
            assert httpx.get(f"{admin}/-/ready").status_code == 200
            assert httpx.get(f"{admin}/-/status").json()["in_flight"] == 1
            assert not slow.done()
            assert slow.result().status_code == 200


def test_not_ready_while_the_application_is_imported(tmp_path: Path) -> None:
    (tmp_path / "site_app.py").write_text(
        "import os, time\n"
        f"while not os.path.exists({str(tmp_path / 'go')!r}): time.sleep(0.01)\n"
        "def app(environ, start_response):\n    start_response('200 OK', [])\n    return [b'hello']\n"
    )
    command = [str(PROGRAM), "site_app:app", "--bind", "127.0.0.1:0", "--admin-bind", "127.0.0.1:0"]
    command += ["--workers", "1", "--python", sys.executable]
    log = tmp_path / "log"
    with log.open("wb") as file, subprocess.Popen(command, cwd=tmp_path, stderr=file, stdout=file) as program:
        try:
            found = eventually(lambda: re.search(r"for operators: (\S+)/-/status", log.read_text()), "the listener")
            admin = found[1]
            assert httpx.get(f"{admin}/-/live").status_code == 200
            not_ready = httpx.get(f"{admin}/-/ready")
            assert (not_ready.status_code, not_ready.text) == (503, "not ready\n")
            assert "retry-after" in not_ready.headers
            (tmp_path / "go").touch()
            eventually(lambda: httpx.get(f"{admin}/-/ready").status_code == 200, "ready")
        finally:
            program.terminate()
            assert program.wait(30) == 0


def test_drain_delay_takes_connections_while_not_ready() -> None:
    flags = ["--admin-bind", "127.0.0.1:0", "--health-path", "/-", "--drain-delay", "1500ms"]
    with Server("plain_wsgi:app", *flags, workers=1) as server:
        admin = admin_url(server)
        started = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        eventually(lambda: httpx.get(f"{admin}/-/ready").status_code == 503, "not ready")
        assert httpx.get(f"{server.url}/-/ready").status_code == 503
        # New connections are still served.
        assert httpx.get(f"{server.url}/pid").status_code == 200
        assert server.process.wait(30) == 0
        assert time.monotonic() - started >= 1.5


def test_a_second_signal_ends_the_drain_delay() -> None:
    with Server("plain_wsgi:app", "--drain-delay", "600s", workers=1) as server:
        server.process.send_signal(signal.SIGTERM)
        server.wait_for_log("not ready any more")
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(30) == 0
