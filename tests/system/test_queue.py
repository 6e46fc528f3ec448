"""The queue: clients take turns, and whoever has left is not in it any more."""

import struct
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from harness import Server, eventually
from harness.certificate import Certificate
from harness.http import Background
from harness.http2 import Code, Http2Connection, Kind, frame
from harness.raw import RawConnection

ONE_AT_A_TIME = ("--threads", "1", "--queue-timeout", "60s", "--admin-bind", "127.0.0.1:0")
# Two clients on one machine.
GREEDY, MODEST = "127.0.0.1", "127.0.0.2"


@dataclass
class Queue:
    """A server whose only worker is held until `release`."""

    server: Server
    record: Path
    admin: str

    def waiting(self) -> int:
        return httpx.get(f"{self.admin}/-/status").json()["queued"]

    def wait_until(self, waiting: int) -> None:
        eventually(lambda: self.waiting() == waiting, f"{waiting} requests in the queue")

    def release(self) -> None:
        (self.record / "release").touch()

    def executed(self) -> list[str]:
        """The methods of `/count`, in the order of execution."""
        path = self.record / "executions"
        return [line.split()[1] for line in path.read_text().splitlines()] if path.exists() else []


@contextmanager
def held_worker(record: Path, *arguments: object, binds: tuple[str, ...] = ("http://127.0.0.1:0",)) -> Iterator[Queue]:
    with Server("plain_wsgi:app", *ONE_AT_A_TIME, *arguments, binds=binds, workers=1) as server:
        admin = server.wait_for_log(r"for operators: (\S+)/-/status")[1]
        verify = not server.listeners[0].startswith("https")
        with Background(server.listeners[0], verify=verify) as background:
            held = background.get("/hold", params={"record": str(record)})
            eventually((record / "entered").exists, "the worker busy")
            yield Queue(server, record, admin)
            (record / "release").touch()
            assert held.result(60).text == "held"


@pytest.mark.parametrize("fairness", ["--queue-fairness", "--no-queue-fairness"])
def test_a_client_that_asks_a_lot_leaves_the_others_their_turn(fairness: str, tmp_path: Path) -> None:
    with (
        held_worker(tmp_path, fairness, "--queue-size", "20") as queue,
        Background(queue.server.url, local_address=GREEDY) as greedy,
        Background(queue.server.url, local_address=MODEST) as modest,
    ):
        count = {"record": str(tmp_path)}
        many: list[Future[httpx.Response]] = []
        for waiting in range(1, 18):
            many.append(greedy.get("/count", params=count))
            queue.wait_until(waiting)
        few = []
        for waiting in range(18, 21):
            few.append(modest.put("/count", params=count))
            queue.wait_until(waiting)
        queue.release()
        assert {answer.result(60).status_code for answer in [*many, *few]} == {200}
        places = [place for place, method in enumerate(queue.executed()) if method == "PUT"]
        # The very first may have been handed to the worker already.
        assert (places[-1] <= 7) if fairness == "--queue-fairness" else places == [17, 18, 19], queue.executed()


def test_a_full_queue_makes_room_at_the_cost_of_whoever_has_the_most(tmp_path: Path) -> None:
    with (
        held_worker(tmp_path, "--queue-size", "5") as queue,
        Background(queue.server.url, local_address=GREEDY) as greedy,
        Background(queue.server.url, local_address=MODEST) as modest,
    ):
        count = {"record": str(tmp_path)}
        many: list[Future[httpx.Response]] = []
        for waiting in range(1, 6):
            many.append(greedy.get("/count", params=count))
            queue.wait_until(waiting)
        # One client alone is refused what does not fit.
        assert greedy.get("/count", params=count).result(60).status_code == 503
        first = modest.put("/count", params=count)
        displaced = many[-1].result(60)
        assert displaced.status_code == 503 and displaced.headers["retry-after"] == "1"
        second = modest.put("/count", params=count)
        assert many[-2].result(60).status_code == 503
        # Room is made until both have their share, and no further.
        assert modest.put("/count", params=count).result(60).status_code == 503
        assert queue.waiting() == 5
        queue.release()
        assert [answer.result(60).status_code for answer in [*many[:3], first, second]] == [200] * 5
        assert sorted(queue.executed()) == ["GET"] * 3 + ["PUT"] * 2


def test_clients_behind_a_unix_socket_are_not_one_client(tmp_path: Path) -> None:
    """Their addresses are not known: none of them makes room, first come, first served."""
    with Server(
        "plain_wsgi:app",
        *ONE_AT_A_TIME,
        "--queue-size",
        "3",
        binds=["http://127.0.0.1:0", "unix:{directory}/site.sock"],
        workers=1,
    ) as server:
        admin = server.wait_for_log(r"for operators: (\S+)/-/status")[1]
        queue = Queue(server, tmp_path, admin)
        connections = [RawConnection(f"unix:{server.socket_path}") for _ in range(3)]
        try:
            with Background(server.url) as background:
                held = background.get("/hold", params={"record": str(tmp_path)})
                eventually((tmp_path / "entered").exists, "the worker busy")
                for waiting, connection in enumerate(connections, start=1):
                    connection.send(f"GET /count?record={tmp_path} HTTP/1.1\r\nHost: localhost\r\n\r\n")
                    queue.wait_until(waiting)
                assert background.get("/").result(60).status_code == 503
                queue.release()
                assert held.result(60).text == "held"
                assert [connection.response().status for connection in connections] == [200] * 3
        finally:
            for connection in connections:
                connection.__exit__()


def test_a_request_leaves_the_queue_with_its_connection(tmp_path: Path) -> None:
    with held_worker(tmp_path) as queue:
        with RawConnection(queue.server.url) as connection:
            connection.send(f"GET /count?record={tmp_path} HTTP/1.1\r\nHost: localhost\r\n\r\n")
            queue.wait_until(1)
        queue.wait_until(0)
        queue.release()
        # A later request has been executed: the one that left can come no more.
        assert httpx.get(queue.server.url, timeout=60).text == "hello"
        assert queue.executed() == []


def test_a_request_leaves_the_queue_with_its_stream(certificate: Certificate, tmp_path: Path) -> None:
    with (
        held_worker(tmp_path, *certificate.flags, binds=("https://127.0.0.1:0",)) as queue,
        Http2Connection(queue.server.https_url, certificate.context()) as connection,
    ):
        path = f"/count?record={tmp_path}"
        connection.send(connection.headers(1, connection.request_fields(path)))
        connection.send(connection.headers(3, connection.request_fields(path, "PUT")))
        queue.wait_until(2)
        connection.send(frame(Kind.RST_STREAM, 0, 1, struct.pack("!I", Code.CANCEL)))
        queue.wait_until(1)
        queue.release()
        assert connection.answer(3).status == 200
        assert queue.executed() == ["PUT"]
