"""A mock of the front: speaks the wire protocol of `crates/wire` to one forked worker, with a time-out on every wait.

    with Worker(app, interface="asgi") as worker:
        response = worker.request("GET", "/").response()
        assert response.status == 200

Only the standard library, no threads: reading happens inside the waits. The extension is loaded in the forked child
only, so the test process stays free to fork the next worker.
"""

from __future__ import annotations

import array
import collections
import contextlib
import enum
import errno
import fcntl
import importlib.machinery
import importlib.util
import json
import mmap
import os
import pathlib
import select
import signal
import socket
import struct
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass, field

VERSION = 4
FRAME_PAYLOAD_MAX = 1 << 20
DATA_CHUNK_MAX = 64 << 10
BODY_INLINE_MAX = 256 << 10
RESPONSE_WINDOW = 1 << 20
REQUEST_WINDOW = 256 << 10
DESCRIPTORS_PER_MESSAGE = 16

END, DESCRIPTOR, TEXT = 1, 2, 4
LINK = 0
EXIT_APP_LOAD, EXIT_LINK = 4, 5
TIMEOUT = 10.0

Headers = list[tuple[bytes, bytes]]


class Kind(enum.IntEnum):
    """`frame::Kind`."""

    REQUEST, BODY, CANCEL, WINDOW, MESSAGE, CLOSE, DRAIN, PING = range(1, 9)
    HELLO, READY, HEAD, DATA, FILE, HINT, TRAILERS, CONSUMED, ACCEPT, ABORT, BOOT_FAILED, DONE = range(16, 28)


class Phase(enum.IntEnum):
    """`page::Phase`."""

    FREE, HANDED, ENTERED, RECALLED, CANCELLED, FINISHED, PASSED = range(7)


class TimedOut(AssertionError):
    """The worker did not do in time what the test waits for."""


class LinkClosed(AssertionError):
    """The worker closed its end of the link."""


class Aborted(Exception):
    """An Abort frame came instead of the rest of the response. `reason`: raised, incomplete or unsupported."""

    def __init__(self, reason: str, head_sent: bool):
        super().__init__(f"{reason}, {'after' if head_sent else 'before'} the head")
        self.reason = reason
        self.head_sent = head_sent


# --- Fields ---------------------------------------------------------------------------------------------------------


def short(value: bytes) -> bytes:
    return struct.pack("<B", len(value)) + value


def medium(value: bytes) -> bytes:
    return struct.pack("<H", len(value)) + value


def to_bytes(value: str | bytes) -> bytes:
    return value.encode("latin-1") if isinstance(value, str) else bytes(value)


def encode_fields(headers) -> bytes:
    pairs = [(to_bytes(name).lower(), to_bytes(value)) for name, value in headers]
    return struct.pack("<H", len(pairs)) + b"".join(medium(name) + medium(value) for name, value in pairs)


def decode_response_head(payload: bytes) -> tuple[int, Headers, bytes]:
    """Status, header fields, and what follows the head (`message::ResponseHead`)."""
    length, status, count = struct.unpack_from("<IHH", payload)
    position = 8
    headers: Headers = []
    for _ in range(count):
        pair = []
        for _ in range(2):
            (size,) = struct.unpack_from("<H", payload, position)
            pair.append(payload[position + 2 : position + 2 + size])
            position += 2 + size
        headers.append((pair[0], pair[1]))
    assert position == length + 4, f"head says {length + 4} bytes, has {position}"
    return status, headers, payload[position:]


@dataclass
class Frame:
    stream: int
    kind: Kind
    flags: int
    payload: bytes
    descriptor: int | None = None

    @property
    def is_end(self) -> bool:
        return bool(self.flags & END)

    @property
    def is_text(self) -> bool:
        return bool(self.flags & TEXT)

    def amount(self) -> int:
        return struct.unpack("<I", self.payload)[0]

    def close(self) -> tuple[int, str]:
        return struct.unpack_from("<H", self.payload)[0], self.payload[2:].decode()

    def abort(self) -> str:
        return ["raised", "incomplete", "unsupported"][self.payload[0]]


@dataclass
class FilePart:
    offset: int
    length: int
    content: bytes


@dataclass
class Response:
    """`body` holds everything in order, the contents of file parts too."""

    status: int = 0
    headers: Headers = field(default_factory=list)
    body: bytes = b""
    files: list[FilePart] = field(default_factory=list)
    trailers: Headers = field(default_factory=list)
    hints: list[tuple[int, Headers]] = field(default_factory=list)
    frames: list[Kind] = field(default_factory=list)

    def __getitem__(self, name: str) -> bytes | None:
        """The value of the first field with this name."""
        wanted = name.encode().lower()
        return next((value for key, value in self.headers if key == wanted), None)

    def all(self, name: str) -> list[bytes]:
        return [value for key, value in self.headers if key == name.encode().lower()]

    @property
    def text(self) -> str:
        return self.body.decode()

    def json(self):
        return json.loads(self.body)


# --- Page -----------------------------------------------------------------------------------------------------------


class Page:
    """The front's side of `page::Page`. Swaps are not atomic here: recall only what the worker cannot enter meanwhile."""

    HEADER_WORDS, CELL_WORDS = 8, 6
    MAGIC = 0x6D6F_6E6F_6365_7273 ^ VERSION

    def __init__(self, cells: int):
        length = (self.HEADER_WORDS + cells * self.CELL_WORDS) * 8
        self.descriptor = os.memfd_create("monoceros-page", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self.descriptor, length)
        # F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW: Python 3.11 has no names for them.
        fcntl.fcntl(self.descriptor, 1033, 1 | 2 | 4)
        self.memory = mmap.mmap(self.descriptor, length)
        struct.pack_into("<QQ", self.memory, 0, self.MAGIC, cells)
        self.cells = cells
        self.unused = collections.deque(range(cells))

    def _at(self, cell: int) -> int:
        return (self.HEADER_WORDS + cell * self.CELL_WORDS) * 8

    def read(self, cell: int) -> tuple[int, Phase, int, int]:
        """Stream, phase, entered_at (ns), thread."""
        state, entered_at, thread = struct.unpack_from("<QQQ", self.memory, self._at(cell))
        return state >> 32, Phase(state & 0xFF), entered_at, thread

    def hand(self, cell: int, stream: int) -> None:
        struct.pack_into("<6Q", self.memory, self._at(cell), stream << 32 | Phase.HANDED, 0, 0, 0, 0, 0)

    def service(self, cell: int) -> int:
        """How long the application took, in nanoseconds; zero before it has answered."""
        return struct.unpack_from("<Q", self.memory, self._at(cell) + 24)[0]

    def swap(self, cell: int, stream: int, before: Phase, after: Phase) -> bool:
        if self.read(cell)[:2] != (stream, before):
            return False
        struct.pack_into("<Q", self.memory, self._at(cell), stream << 32 | after)
        return True

    def free(self, cell: int) -> None:
        struct.pack_into("<Q", self.memory, self._at(cell), 0)
        self.unused.append(cell)

    def close(self) -> None:
        self.memory.close()
        os.close(self.descriptor)


# --- Exchange -------------------------------------------------------------------------------------------------------


class Exchange:
    """One stream: a request or a WebSocket."""

    def __init__(self, worker: Worker, stream: int, cell: int):
        self.worker = worker
        self.stream = stream
        self.cell = cell
        self.queue: collections.deque[Frame] = collections.deque()
        self.freed = False
        self.head_sent = False

    # Front -> worker

    def send(self, kind: Kind, payload: bytes = b"", flags: int = 0) -> None:
        self.worker.send_frame(self.stream, kind, payload, flags)

    def body(self, data: bytes = b"", end: bool = False) -> None:
        """A piece of a streamed request body. The caller minds REQUEST_WINDOW."""
        self.send(Kind.BODY, data, END if end else 0)

    def cancel(self) -> None:
        self.worker.page.swap(self.cell, self.stream, Phase.ENTERED, Phase.CANCELLED)
        self.send(Kind.CANCEL)

    def window(self, amount: int) -> None:
        self.send(Kind.WINDOW, struct.pack("<I", amount))

    def message(self, data: str | bytes, fragment: int = DATA_CHUNK_MAX) -> None:
        """A whole WebSocket message, cut into fragments of at most `fragment` bytes."""
        flags = TEXT if isinstance(data, str) else 0
        raw = data.encode() if isinstance(data, str) else data
        pieces = [raw[at : at + fragment] for at in range(0, len(raw), fragment)] or [b""]
        for piece in pieces[:-1]:
            self.send(Kind.MESSAGE, piece, flags)
        self.send(Kind.MESSAGE, pieces[-1], flags | END)

    def close(self, code: int = 1000, reason: str = "") -> None:
        self.send(Kind.CLOSE, struct.pack("<H", code) + reason.encode())

    def recall(self) -> bool:
        return self.worker.page.swap(self.cell, self.stream, Phase.HANDED, Phase.RECALLED)

    # Worker -> front

    @property
    def phase(self) -> Phase:
        stream, phase, _, _ = self.worker.page.read(self.cell)
        return phase if stream == self.stream else Phase.FREE

    def wait_phase(self, *phases: Phase, timeout: float = TIMEOUT) -> Phase:
        self.worker.wait(lambda: self.phase in phases, f"phase {phases} of stream {self.stream}", timeout, poll=0.005)
        return self.phase

    def next_frame(self, timeout: float = TIMEOUT) -> Frame:
        """The next frame of this stream."""
        self.worker.wait(lambda: bool(self.queue), f"a frame on stream {self.stream}", timeout)
        return self.queue.popleft()

    def expect(self, kind: Kind, timeout: float = TIMEOUT) -> Frame:
        """The next frame, which must be of this kind."""
        frame = self.next_frame(timeout)
        assert frame.kind == kind, f"expected {kind!r}, got {frame!r}\n{self.worker.log()}"
        return frame

    def quiet(self, seconds: float = 0.1) -> bool:
        """Whether no frame of this stream arrives within this time."""
        try:
            self.worker.wait(lambda: bool(self.queue), "", seconds)
        except TimedOut:
            return True
        return False

    def head(self, timeout: float = TIMEOUT) -> tuple[int, Headers, bytes, bool]:
        """Status, headers, first bytes and END of the Head (or Accept, Hint, Trailers) frame that must come next."""
        frame = self.next_frame(timeout)
        assert frame.kind in (Kind.HEAD, Kind.ACCEPT, Kind.HINT, Kind.TRAILERS), f"{frame!r}\n{self.worker.log()}"
        return (*decode_response_head(frame.payload), frame.is_end)

    def response(self, timeout: float = TIMEOUT, grant: bool = True) -> Response:
        """Collects frames up to END; raises `Aborted`. With `grant`, returns credit for all body bytes taken."""
        deadline = time.monotonic() + timeout
        response = Response()
        while True:
            frame = self.next_frame(max(0.0, deadline - time.monotonic()))
            response.frames.append(frame.kind)
            if frame.kind == Kind.CONSUMED:
                continue
            if frame.kind == Kind.ABORT:
                raise Aborted(frame.abort(), self.head_sent)
            data = b""
            if frame.kind == Kind.HINT:
                response.hints.append(decode_response_head(frame.payload)[:2])
            elif frame.kind == Kind.HEAD:
                assert not self.head_sent, "a second head"
                self.head_sent = True
                response.status, response.headers, data = decode_response_head(frame.payload)
            elif frame.kind == Kind.DATA:
                assert self.head_sent, "data before the head"
                data = frame.payload
            elif frame.kind == Kind.FILE:
                assert self.head_sent, "a file before the head"
                offset, length = struct.unpack("<QQ", frame.payload)
                content = read_range(frame.descriptor, offset, length)
                os.close(frame.descriptor)
                response.files.append(FilePart(offset, length, content))
                response.body += content
            elif frame.kind == Kind.TRAILERS:
                assert frame.is_end, "trailers without END"
                response.trailers = decode_response_head(frame.payload)[1]
            else:
                raise AssertionError(f"unexpected in a response: {frame!r}")
            response.body += data
            if frame.is_end:
                return response
            if data and grant:
                self.window(len(data))

    def abort_reason(self, timeout: float = TIMEOUT) -> str:
        """The reason of the Abort that must come before any END."""
        try:
            got = self.response(timeout)
        except Aborted as aborted:
            return aborted.reason
        raise AssertionError(f"expected an abort, got {got!r}")

    def done(self, timeout: float = TIMEOUT) -> None:
        """Waits for the Done frame of an ASGI stream."""
        self.expect(Kind.DONE, timeout)

    def incoming(self, timeout: float = TIMEOUT) -> str | bytes:
        """The next whole WebSocket message from the application; credit is returned, Consumed frames are skipped."""
        collected = b""
        while True:
            frame = self.next_frame(timeout)
            if frame.kind == Kind.CONSUMED:
                continue
            assert frame.kind == Kind.MESSAGE, f"{frame!r}\n{self.worker.log()}"
            collected += frame.payload
            if frame.payload:
                self.window(len(frame.payload))
            if frame.is_end:
                return collected.decode() if frame.is_text else collected

    def free(self) -> None:
        """Gives the cell back for other requests."""
        if not self.freed:
            self.freed = True
            self.worker.page.free(self.cell)
            self.worker.exchanges.pop(self.stream, None)


def read_range(descriptor: int, offset: int, length: int) -> bytes:
    content = b""
    while len(content) < length and (piece := os.pread(descriptor, length - len(content), offset + len(content))):
        content += piece
    return content


# --- Worker ---------------------------------------------------------------------------------------------------------


def extension_path() -> str:
    if given := os.environ.get("MONOCEROS_WORKER_EXTENSION"):
        return given
    root = pathlib.Path(__file__).resolve().parents[2]
    target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", root / "target"))
    return str(target / "debug" / "libmonoceros_worker.so")


def load_extension():
    """Imports the extension from where cargo puts it."""
    path = extension_path()
    loader = importlib.machinery.ExtensionFileLoader("monoceros_worker", path)
    spec = importlib.util.spec_from_file_location("monoceros_worker", path, loader=loader)
    module = importlib.util.module_from_spec(spec)
    sys.modules["monoceros_worker"] = module
    loader.exec_module(module)
    return module


SETTINGS = {
    "app": "tests:app",
    "interface": "auto",
    "factory": False,
    "python_path": [],
    "threads": 1,
    "concurrency": 64,
    "preload": False,
    "event_loop": "auto",
    "lifespan": "auto",
    "root_path": "",
    "server_software": "monoceros/test",
    "multiprocess": False,
}


class Worker:
    """Forks a worker that runs `app`. As a context manager it waits for Ready and leaves no process behind.

    `cells`: size of the page. `wait_ready=False`: the test takes the link frames itself. `child_setup`: called in the
    child before the worker runs. Every other keyword is a field of `zygote::WorkerSettings`.
    """

    def __init__(self, app, interface: str = "auto", *, cells: int = 256, wait_ready: bool = True, child_setup=None,
                 **settings):
        unknown = settings.keys() - SETTINGS.keys()
        assert not unknown, f"no such settings: {unknown}"
        self.app = app
        self.settings = {**SETTINGS, "interface": interface, **settings}
        self.page = Page(cells)
        self.wait_ready = wait_ready
        self.child_setup = child_setup
        self.exchanges: dict[int, Exchange] = {}
        self.link: collections.deque[Frame] = collections.deque()
        self.received = bytearray()
        self.descriptors: collections.deque[int] = collections.deque()
        self.next_stream = 1
        self.eof = False
        self.exit_code: int | None = None
        self.ready: tuple[str, int] | None = None
        self.log_file = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the worker
        self.held: bytearray | None = None

    def __enter__(self) -> Worker:
        self.start()
        if self.wait_ready:
            try:
                self.boot()
            except BaseException:
                self.stop()
                raise
        return self

    def __exit__(self, *_) -> None:
        self.stop()

    def start(self) -> None:
        self.socket, child = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            self._child(child)
        child.close()
        self.socket.setblocking(False)
        self.pidfd = os.pidfd_open(self.pid)

    def _child(self, child: socket.socket) -> None:
        code = 70
        try:
            self.socket.close()
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
            with open(os.devnull) as null:
                os.dup2(null.fileno(), 0)
            os.dup2(self.log_file.fileno(), 1)
            os.dup2(self.log_file.fileno(), 2)
            sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115
            sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
            if self.child_setup:
                self.child_setup()
            extension = load_extension()
            page = os.dup(self.page.descriptor)
            code = extension.run_worker(self.app, child.detach(), page, json.dumps(self.settings))
        except SystemExit as exit:
            code = exit.code if isinstance(exit.code, int) else 71
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)

    def boot(self) -> None:
        """Waits for Hello and Ready."""
        hello = self.link_frame(Kind.HELLO)
        assert struct.unpack("<II", hello.payload) == (VERSION, self.pid)
        ready = self.link_frame(Kind.READY)
        interface, slots = struct.unpack("<BI", ready.payload)
        self.ready = (["wsgi", "asgi"][interface], slots)

    def stop(self) -> None:
        """Closes the link; a worker that does not end by itself is killed."""
        try:
            self.socket.close()
            if self.exit_code is None:
                try:
                    self.wait_exit(5.0)
                except TimedOut:
                    os.kill(self.pid, signal.SIGKILL)
                    self.wait_exit(5.0)
                    raise
        finally:
            os.close(self.pidfd)
            self.page.close()
            self.log_file.close()

    def log(self) -> str:
        """What the worker has written to standard output and standard error so far."""
        return read_range(self.log_file.fileno(), 0, 1 << 24).decode(errors="replace")

    def wait_log(self, text: str, timeout: float = TIMEOUT) -> str:
        self.wait(lambda: text in self.log(), f"{text!r} in the log", timeout, poll=0.01)
        return self.log()

    # Requests

    def request(self, method: str | bytes = "GET", path: str | bytes = "/", headers=(), body: bytes = b"", *,
                file_body: bytes | None = None, stream: bool = False, query: str | bytes | None = None,
                protocol: str = "http", version: int = 11, https: bool = False, tls: tuple[int, int] | None = None,
                client: tuple[str, int] | None = ("127.0.0.1", 40000), server: tuple[str, int] = ("127.0.0.1", 8000),
                ) -> Exchange:
        """Hands a request to the worker. `path` may carry `?query`. `version`: 10, 11 or 20. `client=None`: Unix socket."""
        path = to_bytes(path)
        if query is None:
            path, _, query = path.partition(b"?")
        descriptor, length = None, 0
        if stream:
            source = 3
        elif file_body is not None:
            source, length = 2, len(file_body)
            descriptor = os.memfd_create("body")
            os.write(descriptor, file_body) if file_body else None
        else:
            assert len(body) <= BODY_INLINE_MAX
            source = 1 if body else 0
        head = struct.pack("<BBBBQ", 1 if protocol == "websocket" else 0, version, https | (tls is not None) << 1,
                           source, length)
        if tls is not None:
            head += struct.pack("<HH", *tls)
        address, port = client or ("", 0)
        head += short(to_bytes(method)) + medium(path) + medium(to_bytes(query))
        head += short(to_bytes(address)) + struct.pack("<H", port)
        head += short(to_bytes(server[0])) + struct.pack("<H", server[1])
        head += encode_fields(headers)
        exchange = self.open_stream()
        payload = struct.pack("<II", exchange.cell, len(head)) + head + (body if source == 1 else b"")
        self.send_frame(exchange.stream, Kind.REQUEST, payload, 0 if stream else END, descriptor)
        if descriptor is not None:
            os.close(descriptor)
        return exchange

    def websocket(self, path: str | bytes = "/", headers=(), **more) -> Exchange:
        return self.request("GET", path, headers, protocol="websocket", **more)

    def get(self, path: str | bytes = "/", headers=(), **more) -> Response:
        """One whole request; its cell is free afterwards."""
        return self.fetch("GET", path, headers, **more)

    def fetch(self, method: str, path: str | bytes = "/", headers=(), body: bytes = b"", **more) -> Response:
        """One whole request: response, then Done where the interface has it; its cell is free afterwards."""
        exchange = self.request(method, path, headers, body, **more)
        response = exchange.response()
        if self.ready and self.ready[0] == "asgi":
            exchange.done()
        exchange.free()
        return response

    def open_stream(self) -> Exchange:
        """A stream with a cell that is handed, without a request frame yet."""
        cell = self.page.unused.popleft()
        exchange = Exchange(self, self.next_stream, cell)
        self.next_stream += 1
        self.exchanges[exchange.stream] = exchange
        self.page.hand(cell, exchange.stream)
        return exchange

    # Link

    def drain(self) -> None:
        self.send_frame(LINK, Kind.DRAIN)

    def link_frame(self, kind: Kind | None = None, timeout: float = TIMEOUT) -> Frame:
        """The next frame of the link itself, of this kind when given."""
        self.wait(lambda: bool(self.link), f"a link frame {kind!r}", timeout)
        frame = self.link.popleft()
        assert kind is None or frame.kind == kind, f"expected {kind!r}, got {frame!r}\n{self.log()}"
        return frame

    def boot_failure(self, timeout: float = TIMEOUT) -> dict:
        """Stage, message, hint and traceback of the BootFailed that must come (after Hello)."""
        frame = self.link_frame(timeout=timeout)
        if frame.kind == Kind.HELLO:
            frame = self.link_frame(timeout=timeout)
        assert frame.kind == Kind.BOOT_FAILED, frame
        return json.loads(frame.payload)

    def signal(self, number: int) -> None:
        signal.pidfd_send_signal(self.pidfd, number)

    def wait_exit(self, timeout: float = TIMEOUT) -> int:
        """The worker's exit code; negative: the signal that ended it. Frames that still arrive are kept."""
        deadline = time.monotonic() + timeout
        while self.exit_code is None:
            watched = [self.pidfd]
            if not self.eof and self.socket.fileno() >= 0:
                watched.append(self.socket)
            readable, _, _ = select.select(watched, [], [], max(0.0, deadline - time.monotonic()))
            if not readable:
                raise TimedOut(f"worker {self.pid} did not exit\n{self.log()}")
            if self.socket in readable:
                self._receive()
            if self.pidfd in readable:
                while not self.eof and self.socket.fileno() >= 0 and self._receive():
                    pass
                self.exit_code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.exit_code

    def send_frame(self, stream: int, kind: Kind, payload: bytes = b"", flags: int = 0, descriptor: int | None = None):
        flags |= DESCRIPTOR if descriptor is not None else 0
        data = struct.pack("<IIBBH", len(payload), stream, kind, flags, 0) + payload
        if self.held is not None and descriptor is None:
            self.held += data
        else:
            self.send_raw(data, descriptor)

    @contextlib.contextmanager
    def one_write(self):
        """Frames sent inside leave together at the end, so that the worker reads them in one turn."""
        self.held = bytearray()
        try:
            yield
        finally:
            data, self.held = bytes(self.held), None
            self.send_raw(data)

    def send_raw(self, data: bytes, descriptor: int | None = None) -> None:
        """Writes bytes as they are; reads meanwhile, so that two full socket buffers cannot lock both sides."""
        deadline = time.monotonic() + TIMEOUT
        view = memoryview(data)
        rights = [] if descriptor is None else [
            (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))
        ]
        while view:
            try:
                view = view[self.socket.sendmsg([view], rights) :]
                rights = []
            except BlockingIOError:
                watched = [] if self.eof else [self.socket]
                readable, writable, _ = select.select(watched, [self.socket], [], max(0.0, deadline - time.monotonic()))
                if not readable and not writable:
                    raise TimedOut(f"the worker does not read\n{self.log()}") from None
                if readable:
                    self._receive()
            except (BrokenPipeError, ConnectionResetError):
                raise LinkClosed(f"the worker is gone\n{self.log()}") from None

    def wait(self, condition, what: str, timeout: float = TIMEOUT, poll: float | None = None) -> None:
        """Receives until `condition()`. `poll`: seconds between looks at something that no frame announces."""
        deadline = time.monotonic() + timeout
        while not condition():
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimedOut(f"waited {timeout} s for {what}\n{self.log()}")
            if self.eof:
                if poll is None:
                    raise LinkClosed(f"the link ended while waiting for {what}\n{self.log()}")
                time.sleep(min(poll, left))
                continue
            if select.select([self.socket], [], [], left if poll is None else min(poll, left))[0]:
                self._receive()

    def _receive(self) -> bool:
        """Reads once and sorts whole frames into their queues. False at the end or when there is nothing."""
        try:
            data, descriptors, _, _ = socket.recv_fds(self.socket, 256 << 10, DESCRIPTORS_PER_MESSAGE)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno != errno.ECONNRESET:
                raise
            data, descriptors = b"", []
        self.descriptors.extend(descriptors)
        if not data:
            self.eof = True
            return False
        self.received += data
        while len(self.received) >= 12:
            length, stream, kind, flags, _ = struct.unpack_from("<IIBBH", self.received)
            assert length <= FRAME_PAYLOAD_MAX, f"a payload of {length} bytes"
            if len(self.received) < 12 + length:
                break
            payload = bytes(self.received[12 : 12 + length])
            del self.received[: 12 + length]
            descriptor = self.descriptors.popleft() if flags & DESCRIPTOR else None
            frame = Frame(stream, Kind(kind), flags, payload, descriptor)
            if stream == LINK:
                self.link.append(frame)
            elif stream in self.exchanges:
                self.exchanges[stream].queue.append(frame)
            else:
                raise AssertionError(f"a frame on an unknown stream: {frame!r}")
        return True
