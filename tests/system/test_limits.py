"""What a client may use up, and what happens then: 413, 414, 431, 503, 504."""

import json
from pathlib import Path

import httpx
import pytest

from harness import Server, eventually
from harness.certificate import Certificate
from harness.http import Background
from harness.http2 import Http2Connection, Kind, frame
from harness.raw import RawConnection, exchange

APPLICATIONS = pytest.mark.parametrize("app", ["plain_wsgi:app", "plain_asgi:app"], ids=["wsgi", "asgi"])


def entered(directory: Path) -> int:
    file = directory / "entered"
    return len(file.read_text().splitlines()) if file.exists() else 0


@APPLICATIONS
def test_body_limit(app: str) -> None:
    with Server(app, "--max-body", "100kB") as server, httpx.Client(base_url=server.url, timeout=30) as client:
        limits = {}
        for length in (99_000, 110_000):
            limits[length] = client.post("/digest", content=b"x" * length).status_code
            # Without a length the limit is found only while reading.
            chunks = (b"x" * 1000 for _ in range(length // 1000))
            assert client.post("/digest", content=chunks).status_code == limits[length]
        assert limits == {99_000: 200, 110_000: 413}


def test_body_limit_is_one_megabyte_by_default() -> None:
    """nginx: client_max_body_size."""
    with Server("plain_wsgi:app") as server:
        assert httpx.post(f"{server.url}/digest", content=bytes(1_000_000)).status_code == 200
        assert httpx.post(f"{server.url}/digest", content=bytes(1_100_000)).status_code == 413


def test_body_limit_zero_is_no_limit() -> None:
    with Server("plain_wsgi:app", "--max-body", "0") as server:
        assert httpx.post(f"{server.url}/digest", content=bytes(20_000_000), timeout=60).json()["length"] == 20_000_000


def test_too_large_body_is_refused_before_it_is_sent() -> None:
    with Server("plain_wsgi:app") as server, RawConnection(server.url) as connection:
        connection.send(
            "POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000000\r\nExpect: 100-continue\r\n\r\n"
        )
        assert connection.head().status == 413


def test_body_limit_on_http2(certificate: Certificate) -> None:
    with (
        Server("plain_wsgi:app", *certificate.flags, "--max-body", "10kB", binds=["https://127.0.0.1:0"]) as server,
        Http2Connection(server.https_url, certificate.context()) as connection,
    ):
        connection.send(
            connection.headers(1, connection.request_fields("/echo", "POST"), end_stream=False)
            + frame(Kind.DATA, 0, 1, bytes(12_000))
        )
        assert connection.answer(1).status == 413
        assert connection.get(3).body == b"hello"


HEADS = {
    "header fields of 40 kB": ("GET / HTTP/1.1\r\nHost: localhost\r\n" + "".join(f"X-{n}: {'v' * 990}\r\n" for n in range(40)), 431),
    "one header field of 70 kB": (f"GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: {'v' * 70_000}\r\n", 431),
    "129 header fields": ("GET / HTTP/1.1\r\nHost: localhost\r\n" + "".join(f"X-{n}: v\r\n" for n in range(128)), 431),
    "target of 9 kB": (f"GET /{'a' * 9000} HTTP/1.1\r\nHost: localhost\r\n", 414),
    "target of 100 kB": (f"GET /{'a' * 100_000} HTTP/1.1\r\nHost: localhost\r\n", 414),
    "as much as is allowed": ("GET / HTTP/1.1\r\nHost: localhost\r\n" + "".join(f"X-{n}: {'v' * 200}\r\n" for n in range(100)), 200),
}


@pytest.mark.parametrize("head,status", HEADS.values(), ids=HEADS.keys())
def test_head_limits(head: str, status: int) -> None:
    with Server("plain_wsgi:app") as server:
        assert exchange(server.url, f"{head}\r\n").status == status
        assert httpx.get(server.url).text == "hello"


@APPLICATIONS
def test_queue_full_is_503_with_retry_after(app: str, tmp_path: Path) -> None:
    limit = ("--threads", "1") if "wsgi" in app else ("--worker-concurrency", "1")
    with (
        Server(app, "--queue-size", "3", "--queue-timeout", "60", *limit, workers=1) as server,
        Background(server.url) as background,
    ):
        held = background.get("/hold", params={"record": str(tmp_path)})
        eventually(lambda: entered(tmp_path) == 1, "the worker busy")
        answers = [background.get("/") for _ in range(20)]
        # As many as fit may wait; all others are answered at once, while the worker is still held.
        eventually(lambda: sum(answer.done() for answer in answers) >= 15, "answers for those that do not fit")
        refused = [answer.result() for answer in answers if answer.done()]
        assert {answer.status_code for answer in refused} == {503}
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
        (tmp_path / "release").touch()
        assert held.result(60).text == "held"
        statuses = [answer.result(60).status_code for answer in answers]
        assert set(statuses) == {200, 503}, statuses
        assert statuses.count(200) >= 3, "as many as fit the queue are answered"


def test_waited_too_long_is_503(tmp_path: Path) -> None:
    with (
        Server("plain_wsgi:app", "--queue-timeout", "1", "--threads", "1", workers=1) as server,
        Background(server.url) as background,
    ):
        held = background.get("/hold", params={"record": str(tmp_path)})
        eventually(lambda: entered(tmp_path) == 1, "the worker busy")
        answer = background.get("/").result(60)
        assert answer.status_code == 503
        assert "retry-after" in answer.headers
        (tmp_path / "release").touch()
        assert held.result(60).text == "held"


@APPLICATIONS
def test_application_that_is_too_slow_is_504(app: str, tmp_path: Path) -> None:
    with Server(app, "--timeout", "1", workers=1) as server, Background(server.url) as background:
        answer = background.get("/hold", params={"record": str(tmp_path)}).result(60)
        assert answer.status_code == 504
        (tmp_path / "release").touch()
        # Serving goes on: by the same worker or by a new one.
        assert httpx.get(server.url, timeout=60).text == "hello"


def test_503_before_the_application_has_run(tmp_path: Path) -> None:
    """A refused request must not have had an effect."""
    with (
        Server("plain_wsgi:app", "--queue-timeout", "1", "--threads", "1", workers=1) as server,
        Background(server.url) as background,
    ):
        held = background.get("/hold", params={"record": str(tmp_path)})
        eventually(lambda: entered(tmp_path) == 1, "the worker busy")
        answer = background.post("/count", params={"record": str(tmp_path)}, content=b"x").result(60)
        assert answer.status_code == 503
        (tmp_path / "release").touch()
        held.result(60)
        # A later request on the same worker has been executed: the refused one can come no more.
        assert httpx.get(server.url, timeout=60).text == "hello"
        assert not (tmp_path / "executions").exists()


def test_large_body_reaches_the_application_whole(tmp_path: Path) -> None:
    """Above the memory limit the body is a file; reading it must make no difference."""
    with Server("plain_wsgi:app", "--max-body", "50MB") as server:
        for length in (0, 1, 65_535, 65_536, 65_537, 1_048_576, 30_000_000):
            answer = httpx.post(f"{server.url}/digest", content=bytes(length), timeout=60)
            assert json.loads(answer.text)["length"] == length
