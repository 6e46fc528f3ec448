"""Listening sockets that systemd has opened: LISTEN_FDS."""

import contextlib
import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import Server, eventually, processes
from harness.certificate import Certificate
from harness.load import Load, connection_to

# Opens sockets as systemd does, and becomes the program. Its arguments: addresses, names, and the command behind `--`.
SYSTEMD = """
import os, socket, sys
mark = sys.argv.index("--")
*addresses, names = sys.argv[1:mark]
opened = []
for address in addresses:
    listener = socket.socket(socket.AF_UNIX if address.startswith("/") else socket.AF_INET)
    listener.bind(address if address.startswith("/") else ("127.0.0.1", int(address)))
    listener.listen(64)
    opened.append(os.dup(listener.fileno()))
high = [os.dup2(descriptor, 100 + place) for place, descriptor in enumerate(opened)]
os.closerange(3, 100)
for place, descriptor in enumerate(high):
    os.dup2(descriptor, 3 + place, inheritable=True)
os.closerange(100, 110)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(opened)), LISTEN_FDNAMES=names)
os.execvp(sys.argv[mark + 1], sys.argv[mark + 1:])
"""


@contextlib.contextmanager
def activated(addresses: list[str], names: str, *arguments: object, binds: tuple[str, ...] = (), count: int = 0) -> Iterator[Server]:
    server = Server("plain_wsgi:app", *arguments, binds=binds, workers=1)
    server._binds = addresses[: count or None]
    server._command = [sys.executable, "-c", SYSTEMD, *addresses, names, "--", *server._command]
    with server:
        yield server


def ask(address: str, certificate: Certificate | None = None) -> bytes:
    connection = connection_to(address, certificate.context() if certificate else None)
    connection.request("GET", "/")
    body = connection.getresponse().read()
    connection.close()
    return body


def test_without_bind_all_of_them_serve(tmp_path: Path, certificate: Certificate) -> None:
    path = str(tmp_path / "site.sock")
    with activated(["0", path, "0"], "https:http:site.socket", *certificate.flags) as server:
        first, second, third = server.listeners
        assert first.startswith("https://127.0.0.1:") and second == f"unix:{path}" and third.startswith("https://")
        for address in server.listeners:
            assert ask(address, certificate) == b"hello"
        assert "the service manager has opened unix:" in server.log() and "(site.socket)" in server.log()
        # The application does not learn of it.
        [worker] = server.worker_pids()
        assert b"LISTEN_" not in Path(f"/proc/{worker}/environ").read_bytes()
    # It belongs to the service manager.
    assert Path(path).exists()


def test_a_bind_takes_the_socket_that_listens_there(tmp_path: Path) -> None:
    path = str(tmp_path / "site.sock")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    binds = (f"unix:{path}", f"127.0.0.1:{port}", "127.0.0.1:0")
    with activated([str(port), path, "0"], "a:b:c", binds=binds) as server:
        for address in (f"unix:{path}", f"http://127.0.0.1:{port}"):
            assert ask(address) == b"hello"
        server.wait_for_log(r"nobody answers on 127.0.0.1:\d+ \(c\)")
    assert Path(path).exists()


def test_by_number(tmp_path: Path) -> None:
    path = str(tmp_path / "site.sock")
    with activated(["0", path], "a:b", binds=("fd://4",), count=1) as server:
        assert server.listeners == [f"unix:{path}"]
        assert ask(f"unix:{path}") == b"hello"


def test_another_process_is_meant() -> None:
    with Server("plain_wsgi:app", env={"LISTEN_PID": "1", "LISTEN_FDS": "1"}) as server:
        assert ask(server.url) == b"hello"


@pytest.mark.parametrize("how", [signal.SIGHUP, signal.SIGUSR2], ids=["reload", "upgrade"])
def test_they_stay(tmp_path: Path, how: int) -> None:
    path = str(tmp_path / "site.sock")
    with activated(["0", path], "http:site") as server:
        with Load(server.listeners) as load:
            os.kill(server.pid, how)
            match = server.wait_for_log(r"generation 2 serves|upgrade: process (\d+) serves")
            load.goes_on()
        load.expect_only(200)
        if match.group(1):
            pid = int(match.group(1))
            eventually(lambda: not processes.is_alive(server.pid), "the end of the old process")
            assert ask(f"unix:{path}") == b"hello"
            os.kill(pid, signal.SIGTERM)
            eventually(lambda: not processes.is_alive(pid), "its end")
    assert Path(path).exists()
