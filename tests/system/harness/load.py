"""A constant load: clients that notice every refused, reset or wrong answer."""

import http.client
import socket
import ssl
import threading
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from .processes import eventually

Answer = tuple[int, str]


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def connection_to(address: str, tls: ssl.SSLContext | None, timeout: float = 60) -> http.client.HTTPConnection:
    if address.startswith("unix:"):
        return UnixConnection(address.removeprefix("unix:"), timeout)
    parts = urlsplit(address)
    assert parts.hostname is not None
    if parts.scheme == "https":
        return http.client.HTTPSConnection(parts.hostname, parts.port, timeout=timeout, context=tls)
    return http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout)


class Load:
    """Requests one after another, for every address on connections that stay open and on one connection each.

    Nothing is tried again: a client that was refused or reset once is an error.
    """

    def __init__(self, addresses: list[str], path: str = "/", tls: ssl.SSLContext | None = None, clients: int = 2) -> None:
        self.answers: list[Answer] = []
        self.errors: list[str] = []
        self._path = path
        self._tls = tls
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._ask, args=(address, keep), daemon=True)
            for address in addresses
            for keep in (True, False)
            for _ in range(clients)
        ]

    def _ask(self, address: str, keep: bool) -> None:
        connection = connection_to(address, self._tls)
        while not self._over.is_set():
            try:
                connection.request("GET", self._path, headers={} if keep else {"Connection": "close"})
                answer = connection.getresponse()
                self.answers.append((answer.status, answer.read().decode()))
            except (OSError, http.client.HTTPException) as error:
                self.errors.append(f"{address}, {'kept' if keep else 'fresh'} connection, at {time.time():.3f}: {error!r}")
                return
            if not keep:
                connection.close()
            # The processes under test share two cores with this one.
            time.sleep(0.002)
        connection.close()

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        self.goes_on()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def goes_on(self, is_right: Callable[[Answer], bool] = lambda _: True) -> None:
        """Waits for several more answers from now on that are right."""
        seen = len(self.answers)
        wanted = 3 * len(self._threads)
        eventually(lambda: self.errors or sum(map(is_right, self.answers[seen:])) > wanted, "the load goes on")

    def expect_only(self, status: int = 200) -> None:
        assert self.errors == []
        assert {found for found, _ in self.answers} == {status}
