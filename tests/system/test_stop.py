"""How the program ends: gracefully, at once, or killed; nothing is ever left behind."""

import os
import signal
import time
from pathlib import Path

import httpx
import pytest

from harness import Server, eventually
from harness.certificate import Certificate
from harness.http import Background
from harness.http2 import Http2Connection
from harness.raw import RawConnection
from harness.server import APPS

APPLICATIONS = pytest.mark.parametrize("app", ["plain_wsgi:app", "plain_asgi:app"], ids=["wsgi", "asgi"])


def entered(directory: Path) -> int:
    file = directory / "entered"
    return len(file.read_text().splitlines()) if file.exists() else 0


@APPLICATIONS
@pytest.mark.parametrize("preload", [False, True], ids=["", "preload"])
def test_front_killed_leaves_no_process(app: str, preload: bool) -> None:
    """SIGKILL gives no chance to tidy up: zygote and workers notice by themselves, within two seconds."""
    with Server(app, *(["--preload"] if preload else []), workers=3) as server:
        server.wait_for_workers(3)
        server.expect_clean_stop = False
        os.kill(server.pid, signal.SIGKILL)
        server.process.wait()
        server.expect_nothing_left(within=2.0)


def test_front_killed_while_the_application_is_busy(tmp_path: Path) -> None:
    with Server("plain_wsgi:app", workers=2) as server, Background(server.url) as background:
        held = background.get("/hold", params={"record": str(tmp_path)})
        eventually(lambda: entered(tmp_path) == 1, "a request in the application")
        server.expect_clean_stop = False
        os.kill(server.pid, signal.SIGKILL)
        server.process.wait()
        server.expect_nothing_left(within=2.0)
        assert held.exception(30) is not None


@APPLICATIONS
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_idle_program_stops_at_once(app: str, number: signal.Signals) -> None:
    with Server(app, workers=2) as server:
        assert httpx.get(server.url, timeout=30).text == "hello"
        assert server.stop(number) < 5


@APPLICATIONS
def test_requests_in_progress_are_finished(app: str, tmp_path: Path) -> None:
    with Server(app, "--graceful-timeout", "30", workers=2) as server, Background(server.url) as background:
        held = [background.get("/hold", params={"record": str(tmp_path)}) for _ in range(2)]
        eventually(lambda: entered(tmp_path) == 2, "both requests in the application")
        server.process.send_signal(signal.SIGTERM)
        # New connections are refused before the old requests are finished.
        eventually(lambda: refuses(server), "no new connection accepted")
        (tmp_path / "release").touch()
        assert [answer.result(30).text for answer in held] == ["held"] * 2
        server.stop()


def refuses(server: Server) -> bool:
    try:
        with RawConnection(server.url, timeout=1):
            return False
    except OSError:
        return True


def test_graceful_timeout_ends_what_does_not_end(tmp_path: Path) -> None:
    with Server("plain_wsgi:app", "--graceful-timeout", "1", workers=1) as server, Background(server.url) as background:
        held = background.get("/hold", params={"record": str(tmp_path)})
        eventually(lambda: entered(tmp_path) == 1, "the request in the application")
        assert server.stop() < 15
        assert held.exception(30) is not None or held.result().status_code >= 500


def test_idle_keep_alive_connections_do_not_delay_the_stop() -> None:
    with Server("plain_wsgi:app") as server:
        with RawConnection(server.url) as connection:
            connection.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert connection.response().body == b"hello"
            with RawConnection(server.url):
                assert server.stop() < 5
            assert connection.is_closed()


def test_idle_http2_connections_do_not_delay_the_stop(certificate: Certificate) -> None:
    """Nor does a client that answers nothing any more, not even the PING of a graceful end."""
    with (
        Server("plain_wsgi:app", *certificate.flags, binds=["https://127.0.0.1:0"]) as server,
        Http2Connection(server.https_url, certificate.context()) as used,
        Http2Connection(server.https_url, certificate.context()),
    ):
        assert used.get(1).body == b"hello"
        assert server.stop() < 10


def test_stop_while_workers_are_starting(tmp_path: Path) -> None:
    (tmp_path / "slow_import.py").write_text("import time\ntime.sleep(30)\napp = None\n")
    server = Server("slow_import:app", cwd=tmp_path)
    server._wait_until_ready = lambda: None  # type: ignore[method-assign]
    with server:
        eventually(lambda: server.worker_pids(), "a worker that is importing")
        server.expect_clean_stop = False
        started = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(20)
        assert time.monotonic() - started < 10
        server.expect_nothing_left()


def test_lifespan_is_shut_down(tmp_path: Path) -> None:
    with Server("plain_asgi:app", "--env", f"LIFESPAN_RECORD={tmp_path}", workers=2) as server:
        record = tmp_path / "lifespan"
        # A worker that is stopped before it has started up has nothing to shut down.
        eventually(lambda: record.exists() and len(record.read_text().splitlines()) == 2, "start-up of both workers")
        workers = server.worker_pids()
        server.stop()
    lines = record.read_text().splitlines()
    assert sorted(lines) == sorted([f"{event} {pid}" for pid in workers for event in ("startup", "shutdown")])


def test_front_killed_while_it_reloads(tmp_path: Path) -> None:
    (tmp_path / "site_app.py").write_text("from plain_wsgi import app\n")
    environment = {"PYTHONPATH": str(APPS), "PYTHONDONTWRITEBYTECODE": "1"}
    with Server("site_app:app", workers=2, cwd=tmp_path, env=environment) as server:
        (tmp_path / "site_app.py").write_text("import time; time.sleep(600)\n")
        os.kill(server.pid, signal.SIGHUP)
        eventually(lambda: len(server.worker_pids()) == 3, "a worker of the new code")
        server.expect_clean_stop = False
        os.kill(server.pid, signal.SIGKILL)
        server.process.wait()
        server.expect_nothing_left(within=2.0)


FORKING = """
import subprocess
from plain_wsgi import app
# It holds a copy of every descriptor that is not closed by exec.
subprocess.Popen(["sleep", "30"], close_fds=False, env={"NOT": "ours"})
"""


def test_front_killed_beside_a_process_of_the_application(tmp_path: Path) -> None:
    """What the application has started itself is not ours to end; zygote and workers do not wait for it."""
    (tmp_path / "site_app.py").write_text(FORKING)
    with Server("site_app:app", workers=2, cwd=tmp_path, env={"PYTHONPATH": str(APPS)}) as server:
        server.expect_clean_stop = False
        os.kill(server.pid, signal.SIGKILL)
        server.process.wait()
        server.expect_nothing_left(within=2.0)
