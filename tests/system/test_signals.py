"""Every signal of docs/signals.md does what its table says."""

import os
import pty
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from harness import Server, eventually, processes
from harness.http import Background

CODE = """
import os, time
def app(environ, start_response):
    name = environ["PATH_INFO"].strip("/")
    if name.startswith("wait"):
        open("entered-" + name, "w").close()
        while not os.path.exists("go"):
            time.sleep(0.005)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]
"""

TABLE = (Path(__file__).parents[2] / "docs" / "signals.md").read_text()


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "site_app.py").write_text(CODE)
    return tmp_path


def waiting(site: Path, clients: Background) -> object:
    """A request that is in the application until `go` is there."""
    answer = clients.get("/wait")
    eventually((site / "entered-wait").exists, "the request is in the application")
    return answer


@pytest.mark.parametrize("name", ["TERM", "INT"])
def test_term_and_int_let_requests_finish(site: Path, name: str) -> None:
    with Server("site_app:app", cwd=site) as server, Background(server.url) as clients:
        answer = waiting(site, clients)
        os.kill(server.pid, getattr(signal, f"SIG{name}"))
        server.wait_for_log("stopping: 1 connection may finish")
        (site / "go").touch()
        assert answer.result().text == "hello"
        server.stop()


@pytest.mark.parametrize("names", [("QUIT",), ("TERM", "TERM"), ("INT", "INT"), ("INT", "QUIT")])
def test_quit_or_a_second_signal_stops_quickly(site: Path, names: tuple[str, ...]) -> None:
    with Server("site_app:app", "--graceful-timeout", "1h", cwd=site) as server, Background(server.url) as clients:
        answer = waiting(site, clients)
        for place, name in enumerate(names):
            os.kill(server.pid, getattr(signal, f"SIG{name}"))
            if place == 0 and len(names) > 1:
                server.wait_for_log("stopping: 1 connection may finish")
        # Cut off, or told so.
        assert answer.exception() is not None or answer.result().status_code >= 500
        server.stop(timeout=20)


def test_hup_loads_the_application_anew(site: Path) -> None:
    with Server("site_app:app", cwd=site) as server:
        before = server.worker_pids()
        os.kill(server.pid, signal.SIGHUP)
        server.wait_for_workers(1, other_than=before)
        server.wait_for_log("reload: generation 2 serves")


def test_usr1_opens_the_access_log_again(site: Path) -> None:
    with Server("site_app:app", "--access-log", site / "access.log", cwd=site) as server:
        (site / "access.log").rename(site / "access.log.1")
        os.kill(server.pid, signal.SIGUSR1)
        eventually((site / "access.log").exists, "the access log")


def test_usr2_replaces_the_program(site: Path) -> None:
    with Server("site_app:app", cwd=site) as server:
        os.kill(server.pid, signal.SIGUSR2)
        pid = int(server.wait_for_log(r"upgrade: process (\d+) serves").group(1))
        assert httpx.get(server.url).text == "hello"
        os.kill(pid, signal.SIGTERM)
        eventually(lambda: not processes.is_alive(pid), "its end")


def test_ttin_and_ttou_change_the_number_of_workers(site: Path) -> None:
    with Server("site_app:app", cwd=site) as server:
        os.kill(server.pid, signal.SIGTTIN)
        server.wait_for_workers(2)
        os.kill(server.pid, signal.SIGTTOU)
        server.wait_for_workers(1)


def by_signal(number: int) -> Callable[[Server], None]:
    return lambda server: os.kill(server.pid, number)


def by_command(server: Server) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(server.directory / "control.sock"))
        connection.sendall(b'{"do":"scale","workers":2}\n')
        assert b"done" in connection.recv(4096)


@pytest.mark.parametrize(
    ("come_back", "count"),
    [(by_signal(signal.SIGHUP), 2), (by_signal(signal.SIGTTIN), 1), (by_command, 2)],
    ids=["HUP", "TTIN", "scale"],
)
def test_winch_lets_the_workers_go(site: Path, come_back: Callable[[Server], None], count: int) -> None:
    server = Server("site_app:app", "--queue-timeout", "60s", workers=2, cwd=site)
    server._command += ["--control-socket", str(server.directory / "control.sock"), "--health-path", "/-"]
    with server, Background(server.url) as clients:
        answer = waiting(site, clients)
        os.kill(server.pid, signal.SIGWINCH)
        server.wait_for_log("all workers finish and go")
        (site / "go").touch()
        assert answer.result().text == "hello"
        eventually(lambda: not server.worker_pids(), "no worker")
        assert httpx.get(f"{server.url}/-/ready").status_code == 503
        # The front keeps listening: this one waits for a worker.
        late = clients.get("/late")
        eventually(lambda: httpx.get(f"{server.url}/-/live").status_code == 200, "the front")
        come_back(server)
        assert late.result().text == "hello"
        server.wait_for_workers(count)


def test_winch_without_a_worker_in_time_is_503(site: Path) -> None:
    with Server("site_app:app", "--queue-timeout", "100ms", cwd=site) as server:
        os.kill(server.pid, signal.SIGWINCH)
        eventually(lambda: not server.worker_pids(), "no worker")
        answer = httpx.get(server.url)
        assert answer.status_code == 503 and int(answer.headers["retry-after"]) > 0


def test_winch_of_a_terminal_is_its_window(site: Path) -> None:
    master, slave = pty.openpty()
    server = Server("site_app:app", cwd=site)
    # Its standard input is a terminal, as when somebody works with it.
    server._command = ["sh", "-c", f'exec "$@" < {os.ttyname(slave)}', "sh", *server._command]
    try:
        with server:
            before = server.worker_pids()
            os.kill(server.pid, signal.SIGWINCH)
            # A later signal that is answered says that the earlier one was.
            os.kill(server.pid, signal.SIGTTIN)
            server.wait_for_log("workers: 2 instead of 1")
            assert set(before) <= set(server.worker_pids())
            assert "all workers finish" not in server.log()
    finally:
        os.close(master)
        os.close(slave)


def test_the_page_has_every_signal() -> None:
    for name in ("TERM", "INT", "QUIT", "HUP", "USR1", "USR2", "WINCH", "TTIN", "TTOU"):
        assert f"`{name}`" in TABLE, name
