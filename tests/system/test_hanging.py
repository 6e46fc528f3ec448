"""Applications that take too long or die: what is said about the requests, and who is not to blame."""

import os
import signal
import time
from pathlib import Path

import httpx
import pytest

from harness import Server, eventually
from harness.http import Background
from harness.raw import RawConnection


@pytest.mark.parametrize(("method", "end"), [("GET", "given to another worker"), ("POST", "answered 502")])
def test_the_log_names_the_requests_of_a_lost_worker(method: str, end: str, tmp_path: Path) -> None:
    with Server("plain_wsgi:app", "--threads", "1", workers=1) as server, Background(server.url) as background:
        (worker,) = server.wait_for_workers(1)
        answer = background.request(method, "/hold", params={"record": str(tmp_path), "secret": "1234"})
        eventually((tmp_path / "entered").exists, "the request in the application")
        os.kill(worker, signal.SIGKILL)
        server.wait_for_log(rf"lost with 1 request in the application: {method} /hold \(for \d+\.\d s\): {end}")
        assert "1234" not in server.log()
        (tmp_path / "release").touch()
        assert answer.result(60).status_code == (200 if method == "GET" else 502)


def test_an_upload_may_take_longer_than_the_application() -> None:
    """The time-out of a streamed request is not about its client. With a clock: that is what it is about."""
    with (
        Server("plain_asgi:app", "--stream-request", "/digest", "--timeout", "1s") as server,
        RawConnection(server.url) as connection,
    ):
        connection.send("POST /digest HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1500\r\n\r\n")
        for _ in range(15):
            time.sleep(0.15)
            connection.send(b"x" * 100)
        assert connection.response().status == 200


def test_an_event_loop_that_is_blocked_for_ever_is_replaced_though_nobody_waits() -> None:
    with Server("plain_asgi:app", "--timeout", "3s", workers=1) as server:
        before = server.wait_for_workers(1)
        os.kill(before[0], signal.SIGSTOP)
        for _ in range(5):
            with pytest.raises(httpx.TimeoutException):
                httpx.get(server.url, timeout=0.1)
        server.wait_for_workers(1, other_than=before)
        assert httpx.get(server.url, timeout=30).text == "hello"
