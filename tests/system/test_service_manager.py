"""What systemd is told over its notification socket."""

import contextlib
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from harness import Server

SLOW = """
import time
time.sleep(0.3)
def app(environ, start_response):
    start_response("200 OK", [])
    return [b"", __import__("os").environ.get("NOTIFY_SOCKET", "none").encode()]
"""


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.settimeout(30)
        name = str(tmp_path / "notify") if request.param == "path" else f"@{tmp_path}"
        receiver.bind(name.replace("@", "\0", 1))
        yield receiver, name


def words(receiver: socket.socket) -> dict[str, str]:
    return dict(line.split("=", 1) for line in receiver.recv(4096).decode().splitlines())


def test_ready_reload_stop(manager: tuple[socket.socket, str], tmp_path: Path) -> None:
    receiver, name = manager
    (tmp_path / "site_app.py").write_text(SLOW)
    with Server("site_app:app", workers=1, cwd=tmp_path, env={"NOTIFY_SOCKET": name}) as server:
        told = words(receiver)
        assert told["READY"] == "1" and told["MAINPID"] == str(server.pid) and "site_app:app" in told["STATUS"]
        # Not before the first worker can serve.
        assert "worker 1 ready" in server.log()
        os.kill(server.pid, signal.SIGHUP)
        told = words(receiver)
        assert told["RELOADING"] == "1" and int(told["MONOTONIC_USEC"]) > 0
        assert words(receiver)["READY"] == "1"
        server.wait_for_log("reload: generation 2 serves")
        (tmp_path / "site_app.py").write_text("1 / 0")
        os.kill(server.pid, signal.SIGHUP)
        assert words(receiver)["RELOADING"] == "1"
        # It serves as before: for the service manager that is ready.
        assert words(receiver)["READY"] == "1"
        os.kill(server.pid, signal.SIGTERM)
        assert words(receiver)["STOPPING"] == "1"


def test_the_application_does_not_speak_for_us(manager: tuple[socket.socket, str], tmp_path: Path) -> None:
    receiver, name = manager
    (tmp_path / "site_app.py").write_text(SLOW)
    with Server("site_app:app", workers=1, cwd=tmp_path, env={"NOTIFY_SOCKET": name}) as server:
        assert words(receiver)["READY"] == "1"
        assert httpx.get(server.url).text == "none"


def test_watchdog(manager: tuple[socket.socket, str]) -> None:
    receiver, name = manager
    environment = {"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "200000"}
    with Server("plain_wsgi:app", workers=1, env=environment) as server:
        told = [words(receiver) for _ in range(4)]
        assert sum(word == {"WATCHDOG": "1"} for word in told) >= 3, told
        # It does not hear of a process that does not move.
        os.kill(server.pid, signal.SIGSTOP)
        receiver.settimeout(1)
        with contextlib.suppress(TimeoutError):
            for _ in range(20):
                words(receiver)
            pytest.fail("a stopped process goes on speaking")
        os.kill(server.pid, signal.SIGCONT)
        assert words(receiver) == {"WATCHDOG": "1"}


def test_watchdog_of_another_process_is_not_ours(manager: tuple[socket.socket, str]) -> None:
    receiver, name = manager
    environment = {"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "100000", "WATCHDOG_PID": "1"}
    with Server("plain_wsgi:app", workers=1, env=environment):
        assert words(receiver)["READY"] == "1"
        receiver.settimeout(1)
        with pytest.raises(TimeoutError):
            words(receiver)
