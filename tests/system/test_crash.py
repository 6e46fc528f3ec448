"""Workers that are killed: what the client gets, how often the application ran, and that a new worker comes."""

import json
import os
import signal
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from harness import Server, eventually
from harness.certificate import Certificate
from harness.http import Background
from harness.http2 import Code, Http2Connection, Kind, frame
from harness.processes import children, is_alive, unread_bytes
from harness.raw import ConnectionEnded, RawConnection

APPLICATIONS = pytest.mark.parametrize("app", ["plain_wsgi:app", "plain_asgi:app"], ids=["wsgi", "asgi"])


def lines(directory: Path, name: str = "executions") -> list[str]:
    file = directory / name
    return file.read_text().splitlines() if file.exists() else []


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not is_alive(pid), f"end of {pid}")


def lose_the_request(server: Server, background: Background, method: str, query: dict[str, str], body: bytes) -> httpx.Response:
    """Stops all workers, sends one request, kills the worker that was handed it, and returns the answer.

    A stopped process cannot read its socket: the application has certainly not been entered when it dies. That the
    request was handed to it, and is not still in the queue, is read off its unread bytes.
    """
    workers = server.worker_pids()
    before = {}
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)
    for pid in workers:
        before[pid] = unread_bytes(pid)
    answer = background.request(method, "/count", params=query, content=body)
    handed = eventually(
        lambda: [pid for pid in workers if unread_bytes(pid) > before[pid]], "the request handed to a stopped worker"
    )
    kill(handed[0])
    for pid in workers:
        if pid != handed[0]:
            os.kill(pid, signal.SIGCONT)
    return answer.result(60)


@APPLICATIONS
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_killed_before_entry_100_times(app: str, method: str, tmp_path: Path) -> None:
    """Nobody notices: each of 100 requests whose worker is killed before entry gets its 200 and runs exactly once."""
    rounds = 100 if app.startswith("plain_wsgi") else 30
    with Server(app, "--queue-timeout", "60", workers=2) as server, Background(server.url) as background:
        for number in range(rounds):
            server.wait_for_workers(2)
            body = f"round {number}".encode() if method == "POST" else b""
            query = {"record": str(tmp_path), "name": f"round-{number}"}
            answer = lose_the_request(server, background, method, query, body)
            assert answer.status_code == 200, f"round {number}: {answer.status_code} {answer.text}\n{server.log()}"
            assert answer.content == (body or b"counted")
            executed = lines(tmp_path, f"round-{number}")
            assert [line.split()[1] for line in executed] == [method], f"round {number} ran {len(executed)} times"


@APPLICATIONS
def test_killed_before_entry_with_only_one_worker(app: str, tmp_path: Path) -> None:
    """There is no other worker: the request waits for the next one. Its large body is handed over a second time."""
    body = bytes(range(256)) * 2000
    with (
        Server(app, "--queue-timeout", "60", workers=1) as server,
        Background(server.url) as background,
    ):
        for number in range(5):
            first = server.wait_for_workers(1)
            query = {"record": str(tmp_path), "name": f"round-{number}"}
            answer = lose_the_request(server, background, "POST", query, body)
            assert (answer.status_code, answer.content == body) == (200, True), answer.text[:500]
            assert len(lines(tmp_path, f"round-{number}")) == 1
            server.wait_for_workers(1, other_than=first)


@APPLICATIONS
def test_several_requests_handed_to_one_worker_that_is_killed(app: str, tmp_path: Path) -> None:
    """Whatever was handed ahead of time is replayed, each once."""
    with Server(app, "--queue-timeout", "60", "--retries", "3", workers=1) as server, Background(server.url) as background:
        # Fast answers first: they are what makes handing ahead worth while.
        with httpx.Client(base_url=server.url) as client:
            for _ in range(500):
                client.get("/")
        (worker,) = server.worker_pids()
        os.kill(worker, signal.SIGSTOP)
        before = unread_bytes(worker)
        answers = [
            background.post("/count", params={"record": str(tmp_path), "name": f"post-{number}"}, content=b"body")
            for number in range(10)
        ]
        eventually(lambda: unread_bytes(worker) > before, "a request handed to the stopped worker")
        kill(worker)
        assert [answer.result(60).status_code for answer in answers] == [200] * 10
        assert [len(lines(tmp_path, f"post-{number}")) for number in range(10)] == [1] * 10


@APPLICATIONS
def test_killed_in_the_application(app: str, tmp_path: Path) -> None:
    """Entered: a GET runs again on another worker, a POST may have done its work already and becomes a 502."""
    for method, status, executions in (("GET", 200, 2), ("POST", 502, 1), ("PUT", 200, 2), ("DELETE", 200, 2)):
        directory = tmp_path / method
        directory.mkdir()
        with Server(app, workers=2) as server:
            answer = httpx.request(method, f"{server.url}/die-once", params={"record": str(directory)}, timeout=60)
            assert answer.status_code == status, f"{method}: {answer.text}\n{server.log()}"
            assert len(lines(directory)) == executions, method
            # Both workers are back, and serve.
            server.wait_for_workers(2)
            assert httpx.get(server.url, timeout=60).text == "hello"


@pytest.mark.parametrize("accepted", ["text/html", "application/json"])
def test_a_502_says_nothing_about_the_inside(accepted: str, tmp_path: Path) -> None:
    """A page for browsers, a line of text for programs."""
    with Server("plain_wsgi:app") as server:
        answer = httpx.post(
            f"{server.url}/die-once", params={"record": str(tmp_path)}, headers={"accept": accepted}, timeout=60
        )
        assert answer.status_code == 502
        assert answer.headers["content-type"].startswith("text/html") == (accepted == "text/html")
        for secret in ("Traceback", "plain_wsgi", str(tmp_path), "/home", "SIGKILL"):
            assert secret not in answer.text


@pytest.mark.parametrize("length", [None, "1000000"], ids=["chunked", "content-length"])
def test_broken_after_the_head_is_cut_on_http1(length: str | None, tmp_path: Path) -> None:
    """A false end would be a truncated answer that looks whole."""
    with Server("plain_wsgi:app", workers=2) as server, RawConnection(server.url) as connection:
        query = f"record={tmp_path}" + (f"&length={length}" if length else "")
        connection.send(f"GET /die-streaming?{query} HTTP/1.1\r\nHost: localhost\r\n\r\n")
        head = connection.head()
        assert head.status == 200
        (tmp_path / "release").touch()
        rest = connection.rest()
        assert not rest.endswith(b"0\r\n\r\n"), "a chunked answer was ended as if it were complete"
        assert len(rest) < 1_000_000


def test_broken_after_the_head_is_reset_on_http2(certificate: Certificate, tmp_path: Path) -> None:
    with (
        Server("plain_wsgi:app", *certificate.flags, binds=["https://127.0.0.1:0"], workers=2) as server,
        Http2Connection(server.https_url, certificate.context()) as connection,
    ):
        connection.send(connection.headers(1, connection.request_fields(f"/die-streaming?record={tmp_path}")))
        found = connection.until(Kind.HEADERS)
        assert found is not None
        # Header blocks have to be decoded in order: they share one table.
        assert dict(connection.decoder.decode(found.payload))[":status"] == "200"
        # The first piece is one byte longer than the windows of a client: what was begun is sent before the reset.
        for stream in (0, 1):
            connection.send(frame(Kind.WINDOW_UPDATE, 0, stream, (1 << 20).to_bytes(4, "big")))
        (tmp_path / "release").touch()
        found = connection.until(Kind.RST_STREAM)
        assert found is not None, "the stream ended without a reset"
        assert found.code in (Code.INTERNAL_ERROR, Code.CANCEL, Code.PROTOCOL_ERROR)
        # Only this stream is broken, not the connection.
        assert connection.get(3).body == b"hello"


def test_exception_after_the_head_is_cut(tmp_path: Path) -> None:
    with Server("plain_wsgi:app") as server, RawConnection(server.url) as connection:
        connection.send(f"GET /raises-late?record={tmp_path} HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.head().status == 200
        (tmp_path / "release").touch()
        assert not connection.rest().endswith(b"0\r\n\r\n")
        server.wait_for_log(r"RuntimeError: raised on purpose, late")


@APPLICATIONS
def test_exception_is_a_500_and_the_worker_lives_on(app: str) -> None:
    with Server(app) as server:
        before = server.worker_pids()
        answer = httpx.get(f"{server.url}/raises", timeout=60)
        assert answer.status_code == 500
        assert "raised on purpose" not in answer.text
        server.wait_for_log(r"w\d+ \| .*RuntimeError: raised on purpose")
        assert httpx.get(server.url).text == "hello"
        assert server.worker_pids() == before


def test_every_worker_killed_at_once_is_replaced() -> None:
    with Server("plain_wsgi:app", workers=3) as server:
        before = server.wait_for_workers(3)
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        server.wait_for_workers(3, other_than=before)
        assert httpx.get(server.url, timeout=60).text == "hello"


def test_workers_killed_under_load_lose_nothing() -> None:
    """GET requests while workers die one after another: every single one is answered 200."""
    with Server("plain_wsgi:app", "--retries", "5", "--queue-timeout", "60", workers=2) as server:
        with Background(server.url, at_once=8) as background:
            answers = [background.get("/pid") for _ in range(400)]
            for _ in range(5):
                seen = server.wait_for_workers(2)
                kill(seen[0])
            statuses = [answer.result(90).status_code for answer in answers]
        assert statuses == [200] * 400, {status: statuses.count(status) for status in set(statuses)}


def test_the_zygote_killed_is_replaced_too() -> None:
    """Workers of a dead zygote could never be replaced one by one; serving has to go on all the same."""
    with Server("plain_wsgi:app", workers=2) as server:
        (zygote,) = children(server.pid)
        os.kill(zygote, signal.SIGKILL)
        eventually(lambda: children(server.pid) not in ([], [zygote]), "a new zygote")
        server.wait_for_workers(2)
        assert httpx.get(server.url, timeout=60).text == "hello"


def test_websocket_of_a_killed_worker_is_closed_with_1011_or_1012() -> None:
    with Server("plain_asgi:app") as server:
        with connect(server.url.replace("http", "ws", 1) + "/echo", compression=None) as socket:
            socket.send("die")
            with pytest.raises(ConnectionClosed) as closed:
                socket.recv(30)
        assert closed.value.rcvd is None or closed.value.rcvd.code in (1011, 1012)
        server.wait_for_workers(1)
        assert httpx.get(server.url, timeout=60).text == "hello"


def test_client_that_leaves_costs_no_worker(tmp_path: Path) -> None:
    """A request whose client is gone is finished or dropped, and the worker serves the next one."""
    with Server("plain_wsgi:app") as server:
        for _ in range(20):
            with RawConnection(server.url) as connection:
                connection.send("GET /download?bytes=5000000 HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert connection.head().status == 200
        assert httpx.get(server.url, timeout=60).text == "hello"
        facts = json.loads(httpx.get(f"{server.url}/facts").text)
        assert facts["pid"] in server.worker_pids()


def test_unanswered_connection_is_not_left_open_after_an_error(tmp_path: Path) -> None:
    with Server("plain_wsgi:app") as server, RawConnection(server.url) as connection:
        connection.send(f"POST /die-once?record={tmp_path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
        assert connection.response().status == 502
        # Kept or closed, both are right; only an undefined state is not.
        try:
            connection.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert connection.response().body == b"hello"
        except (ConnectionEnded, BrokenPipeError, ConnectionResetError):
            pass
