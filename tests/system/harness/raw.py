"""HTTP/1.1 over a bare socket: what a test sends is byte for byte what the program gets."""

import socket
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass
class Response:
    """One response as it stood on the wire."""

    version: str
    status: int
    reason: str
    headers: list[tuple[str, str]]
    body: bytes = b""
    trailers: list[tuple[str, str]] = field(default_factory=list)

    def header(self, name: str) -> str | None:
        """The only value of a header, `None` without it; two lines of the same name fail."""
        values = self.all(name)
        assert len(values) <= 1, f"{name} was sent {len(values)} times: {values}"
        return values[0] if values else None

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]


class ConnectionEnded(Exception):
    """The program closed the connection where the test expected more."""


class RawConnection:
    """One client connection. `send` is literal; `response` reads exactly one response."""

    def __init__(self, address: str, timeout: float = 30.0, tls: object = None, name: str = "localhost") -> None:
        if address.startswith("unix:"):
            self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.socket.settimeout(timeout)
            self.socket.connect(address.removeprefix("unix:"))
        else:
            parts = urlsplit(address)
            self.socket = socket.create_connection((parts.hostname, parts.port), timeout)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_hostname=name)  # type: ignore[attr-defined]
        self._buffer = b""

    def __enter__(self) -> "RawConnection":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes | str) -> None:
        self.socket.sendall(data.encode("latin-1") if isinstance(data, str) else data)

    def _fill(self) -> None:
        data = self.socket.recv(65536)
        if not data:
            raise ConnectionEnded(f"closed by the program; unread: {self._buffer[:200]!r}")
        self._buffer += data

    def line(self) -> str:
        """One line, without its end."""
        while b"\r\n" not in self._buffer:
            self._fill()
        line, self._buffer = self._buffer.split(b"\r\n", 1)
        return line.decode("latin-1")

    def exactly(self, length: int) -> bytes:
        while len(self._buffer) < length:
            self._fill()
        data, self._buffer = self._buffer[:length], self._buffer[length:]
        return data

    def fields(self) -> list[tuple[str, str]]:
        """Header or trailer lines up to the empty line."""
        found = []
        while line := self.line():
            name, colon, value = line.partition(":")
            assert colon, f"no colon in {line!r}"
            found.append((name, value.strip()))
        return found

    def head(self) -> Response:
        """The next status line and its headers, 1xx included; the body stays unread."""
        version, _, rest = self.line().partition(" ")
        status, _, reason = rest.partition(" ")
        return Response(version, int(status), reason, self.fields())

    def response(self, method: str = "GET") -> Response:
        """The next final response with its whole body; 1xx responses are skipped."""
        response = self.head()
        while response.status < 200 and response.status != 101:
            response = self.head()
        if method == "HEAD" or response.status in (101, 204, 304):
            return response
        if (response.header("transfer-encoding") or "").lower() == "chunked":
            while size := int(self.line().partition(";")[0], 16):
                response.body += self.exactly(size)
                assert self.exactly(2) == b"\r\n", "a chunk does not end where its size says"
            response.trailers = self.fields()
        elif (length := response.header("content-length")) is not None:
            response.body = self.exactly(int(length))
        else:
            response.body = self.rest()
        return response

    def rest(self) -> bytes:
        """Everything until the program closes the connection."""
        try:
            while True:
                self._fill()
        except (ConnectionEnded, ConnectionResetError):
            data, self._buffer = self._buffer, b""
            return data

    def is_closed(self) -> bool:
        """Waits until the program closes, and says whether it did so without sending anything more."""
        return self.rest() == b""


def exchange(address: str, request: bytes | str, timeout: float = 30.0) -> Response:
    """Sends bytes on a fresh connection and reads one response."""
    method = (request if isinstance(request, str) else request.decode("latin-1")).partition(" ")[0]
    with RawConnection(address, timeout) as connection:
        connection.send(request)
        return connection.response(method)
