"""HTTP/2 frame by frame: a client that can be as wrong as a test needs it to be (RFC 9113)."""

import contextlib
import socket
import ssl
import struct
from dataclasses import dataclass, field
from enum import IntEnum
from urllib.parse import urlsplit

import hpack

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


class Kind(IntEnum):
    """Frame types (RFC 9113 §6)."""

    DATA = 0
    HEADERS = 1
    PRIORITY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PUSH_PROMISE = 5
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9


class Code(IntEnum):
    """Error codes (RFC 9113 §7)."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    CONNECT_ERROR = 10
    ENHANCE_YOUR_CALM = 11


END_STREAM = 0x1
ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
PRIORITY = 0x20

HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE = 1, 2, 3, 4, 5


@dataclass(frozen=True)
class Frame:
    """One frame as received."""

    kind: int
    flags: int
    stream: int
    payload: bytes

    @property
    def code(self) -> int:
        """The error code of RST_STREAM or GOAWAY."""
        offset = 4 if self.kind == Kind.GOAWAY else 0
        return struct.unpack_from("!I", self.payload, offset)[0]


@dataclass
class Answer:
    """What came back for one stream."""

    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    trailers: list[tuple[str, str]] = field(default_factory=list)
    ended: bool = False
    reset: int | None = None

    @property
    def status(self) -> int | None:
        return int(dict(self.headers)[":status"]) if self.headers else None


def frame(kind: int, flags: int, stream: int, payload: bytes = b"", length: int | None = None) -> bytes:
    """A frame; `length` can contradict the payload."""
    size = len(payload) if length is None else length
    return struct.pack("!I", size)[1:] + struct.pack("!BBI", kind, flags, stream) + payload


def settings(values: dict[int, int] | None = None) -> bytes:
    payload = b"".join(struct.pack("!HI", name, value) for name, value in (values or {}).items())
    return frame(Kind.SETTINGS, 0, 0, payload)


class Http2Connection:
    """One TLS connection with ALPN `h2`. Sends anything, reads whole frames, answers nothing by itself."""

    def __init__(
        self,
        url: str,
        context: ssl.SSLContext,
        timeout: float = 20.0,
        preface: bool = True,
        receive_buffer: int | None = None,
    ) -> None:
        parts = urlsplit(url)
        self.authority = parts.netloc
        context.set_alpn_protocols(["h2"])
        plain = socket.socket()
        if receive_buffer:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        plain.settimeout(timeout)
        plain.connect((parts.hostname, parts.port))
        self.socket = context.wrap_socket(plain, server_hostname=parts.hostname)
        assert self.socket.selected_alpn_protocol() == "h2", "the program did not choose h2"
        self._buffer = b""
        self.encoder = hpack.Encoder()
        self.decoder = hpack.Decoder()
        self.decoder.max_allowed_table_size = 4096
        # The program's answers to what happened so far, in order.
        self.received: list[Frame] = []
        if preface:
            self.send(PREFACE + settings())

    def __enter__(self) -> "Http2Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        # The program may close after the first wrong byte; what it said before is still to be read.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError, ssl.SSLError):
            self.socket.sendall(data)

    def _exactly(self, length: int) -> bytes | None:
        while len(self._buffer) < length:
            try:
                data = self.socket.recv(65536)
            except (ConnectionResetError, ssl.SSLEOFError):
                return None
            if not data:
                return None
            self._buffer += data
        data, self._buffer = self._buffer[:length], self._buffer[length:]
        return data

    def read(self) -> Frame | None:
        """The next frame; `None` when the connection was closed."""
        head = self._exactly(9)
        if head is None:
            return None
        payload = self._exactly(int.from_bytes(head[:3], "big"))
        if payload is None:
            return None
        found = Frame(head[3], head[4], struct.unpack("!I", head[5:])[0] & 0x7FFFFFFF, payload)
        self.received.append(found)
        return found

    def until(self, *kinds: int) -> Frame | None:
        """Reads until a frame of one of the kinds; `None` when the connection was closed before."""
        while (found := self.read()) is not None:
            if found.kind in kinds:
                return found
        return None

    def request_fields(self, path: str = "/", method: str = "GET") -> list[tuple[str, str]]:
        return [(":method", method), (":scheme", "https"), (":authority", self.authority), (":path", path)]

    def headers(
        self,
        stream: int,
        fields: list[tuple[str, str]] | list[tuple[bytes, bytes]],
        end_stream: bool = True,
        flags: int = END_HEADERS,
    ) -> bytes:
        """A HEADERS frame with exactly these fields, in exactly this order."""
        block = self.encoder.encode(fields, huffman=False)
        return frame(Kind.HEADERS, flags | (END_STREAM if end_stream else 0), stream, block)

    def get(self, stream: int, path: str = "/") -> Answer:
        """A correct GET with its whole answer."""
        self.send(self.headers(stream, self.request_fields(path)))
        return self.answer(stream)

    def answer(self, stream: int) -> Answer:
        """Reads until `stream` ended or was reset; gives back flow control credit; acknowledges settings."""
        answer = Answer()
        while not answer.ended and answer.reset is None:
            found = self.read()
            assert found is not None, f"closed before stream {stream} ended; received {self.received}"
            assert found.kind != Kind.GOAWAY, f"GOAWAY {Code(found.code).name}: {found.payload[8:]!r}"
            if found.kind == Kind.SETTINGS and not found.flags & ACK:
                self.send(frame(Kind.SETTINGS, ACK, 0))
            if found.stream != stream:
                continue
            if found.kind == Kind.HEADERS:
                fields = self.decoder.decode(self._block(found))
                if answer.body or (answer.headers and answer.status and answer.status >= 200):
                    answer.trailers = fields
                else:
                    answer.headers = fields
                answer.ended = bool(found.flags & END_STREAM)
            elif found.kind == Kind.DATA:
                answer.body += found.payload
                answer.ended = bool(found.flags & END_STREAM)
                if found.payload:
                    credit = struct.pack("!I", len(found.payload))
                    self.send(frame(Kind.WINDOW_UPDATE, 0, 0, credit))
                    if not answer.ended:
                        self.send(frame(Kind.WINDOW_UPDATE, 0, stream, credit))
            elif found.kind == Kind.RST_STREAM:
                answer.reset = found.code
        return answer

    def _block(self, first: Frame) -> bytes:
        block, last = first.payload, first
        while not last.flags & END_HEADERS:
            following = self.read()
            assert following is not None and following.kind == Kind.CONTINUATION
            block, last = block + following.payload, following
        return block
