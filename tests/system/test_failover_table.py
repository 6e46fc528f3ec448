"""Every row of the table in docs/failover.md, over real sockets and with real workers."""

import contextlib
import os
import re
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import httpx
import pytest
from test_crash import lose_the_request
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from harness import Server, eventually, run_to_end
from harness.http import Background
from harness.raw import RawConnection
from harness.server import ROOT

ROWS: set[str] = set()
Test = TypeVar("Test", bound=Callable[..., None])


def row(what: str) -> Callable[[Test], Test]:
    """Names the row of the page that a test is about."""
    ROWS.add(what)
    return lambda test: test


def executions(record: Path) -> list[str]:
    file = record / "executions"
    return file.read_text().split() if file.exists() else []


@contextlib.contextmanager
def serving(*arguments: object, workers: int = 2, **settings: object) -> Iterator[Server]:
    with Server("failover:app", *arguments, workers=workers, **settings) as server:  # type: ignore[arg-type]
        server.wait_for_workers(workers)
        serving = rf'"serving":{workers}'
        eventually(lambda: re.search(serving, status(server)), "all workers serve")
        yield server


def status(server: Server) -> str:
    admin = re.search(r"for operators: (\S+)/-/status", server.log())
    return httpx.get(f"{admin[1]}/-/status").text if admin else f'"serving":{len(server.worker_pids())}'


ADMIN = ("--admin-bind", "127.0.0.1:0")


def ask(server: Server, record: Path, path: str, method: str = "GET", **query: str) -> httpx.Response:
    body = b"the body" if method == "POST" else b""
    query["record"] = str(record)
    return httpx.request(method, server.url + path, params=query, content=body, timeout=60)


def test_every_row_of_the_page_has_a_test_and_every_test_a_row() -> None:
    page = (ROOT / "docs" / "failover.md").read_text()
    table = re.search(r"^\| what happened \|.*?\n\n", page, re.MULTILINE | re.DOTALL)
    assert table
    rows = [line.split("|")[1].strip().replace("**", "") for line in table[0].splitlines()[2:] if line]
    assert len(rows) == len(set(rows)) > 5
    assert set(rows) == ROWS


@row("the worker died, the application was not entered")
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_died_before_entry(method: str, tmp_path: Path) -> None:
    signs = ("--retry-on", "never", "--retries", "0")
    with Server("plain_wsgi:app", *signs, "--queue-timeout", "60", workers=2) as server, Background(server.url) as background:
        server.wait_for_workers(2)
        answer = lose_the_request(server, background, method, {"record": str(tmp_path)}, b"body" if method == "POST" else b"")
        assert answer.status_code == 200
        assert len(executions(tmp_path)) == 2, "one line has two words: it ran once"


@row("the worker died in the application, nothing was sent yet")
@pytest.mark.parametrize(
    ("method", "headers", "signs", "expected", "ran"),
    [
        ("GET", {}, (), 200, 2),
        ("POST", {}, (), 502, 1),
        ("POST", {"idempotency-key": "7"}, (), 200, 2),
        ("POST", {}, ("--retry-on", "died", "--retry-non-idempotent"), 502, 1),
        ("GET", {}, ("--retry-on", "never"), 502, 1),
        ("GET", {}, ("--retry-on", "503,timeout"), 502, 1),
    ],
)
def test_died_in_the_application(
    method: str, headers: dict[str, str], signs: tuple[str, ...], expected: int, ran: int, tmp_path: Path
) -> None:
    with serving(*ADMIN, *signs) as server:
        answer = httpx.request(
            method, f"{server.url}/dies", params={"record": str(tmp_path)}, headers=headers, timeout=60
        )
        assert (answer.status_code, len(executions(tmp_path))) == (expected, ran)


@row("the application raised, nothing was sent yet")
@pytest.mark.parametrize(
    ("method", "signs", "expected", "ran"),
    [("GET", (), 500, 1), ("GET", ("--retry-on", "error"), 200, 2), ("POST", ("--retry-on", "error"), 500, 1)],
)
def test_raised(method: str, signs: tuple[str, ...], expected: int, ran: int, tmp_path: Path) -> None:
    with serving(*ADMIN, *signs) as server:
        answer = ask(server, tmp_path, "/raises", method)
        assert (answer.status_code, len(executions(tmp_path))) == (expected, ran)
        if ran == 2:
            server.wait_for_log(r"GET /raises: given to another worker, because the application failed in worker \d+")


@row("the application answered with a status that is a sign")
@pytest.mark.parametrize(
    ("method", "status", "signs", "expected"),
    [
        ("GET", "503", (), 503),
        ("GET", "503", ("--retry-on", "503"), 200),
        ("GET", "502", ("--retry-on", "503"), 502),
        ("GET", "502", ("--retry-on", "died,5xx"), 200),
        ("POST", "503", ("--retry-on", "503"), 503),
        ("POST", "503", ("--retry-on", "503", "--retry-non-idempotent"), 200),
    ],
)
def test_status(method: str, status: str, signs: tuple[str, ...], expected: int, tmp_path: Path) -> None:
    with serving(*ADMIN, *signs) as server:
        answer = ask(server, tmp_path, "/status", method, status=status)
        assert answer.status_code == expected
        ran = executions(tmp_path)
        if expected == 200:
            # Another worker has it, and its body a second time; nothing is left of the first answer.
            assert len(set(ran)) == 2
            assert answer.json() == {"pid": int(ran[1]), "body": "the body" if method == "POST" else ""}
            server.wait_for_log(rf"{method} /status: given to another worker, because it was answered {status} by worker \d+")
        else:
            assert len(ran) == 1
            assert answer.text.startswith("a failure, ")
            assert answer.text.endswith("in pieces")
        # The worker whose answer was dropped serves on.
        assert len({httpx.get(server.url, timeout=60).status_code for _ in range(10)}) == 1


@row("the application answered with a header field that is a sign")
@pytest.mark.parametrize(
    ("sign", "value", "is_another"),
    [("header:X-Again", "", True), ("header:x-again=1", "1", True), ("header:x-again=1", "0", False)],
)
def test_header(sign: str, value: str, is_another: bool, tmp_path: Path) -> None:
    with serving(*ADMIN, "--retry-on", sign) as server:
        answer = ask(server, tmp_path, "/header", value=value)
        assert answer.status_code == 200
        assert (answer.text == "not from me") == (not is_another)
        assert len(set(executions(tmp_path))) == (2 if is_another else 1)


def test_a_single_worker_is_not_asked_twice(tmp_path: Path) -> None:
    with serving("--retry-on", "503,error,timeout", workers=1) as server:
        answer = ask(server, tmp_path, "/status", status="503")
        assert (answer.status_code, answer.text[:9]) == (503, "a failure")
        assert len(executions(tmp_path)) == 1


def test_it_waits_for_another_worker_and_keeps_nobody_from_the_first(tmp_path: Path) -> None:
    with serving(*ADMIN, "--retry-on", "503", "--queue-timeout", "60") as server, Background(server.url) as background:
        held = background.get("/hold", params={"record": str(tmp_path)})
        eventually((tmp_path / "entered").exists, "one worker held")
        answer = background.get("/status", params={"record": str(tmp_path), "status": "503"})
        server.wait_for_log("given to another worker")
        # The first one is free, and serves others meanwhile.
        for _ in range(5):
            assert httpx.get(server.url, timeout=60).status_code == 200
        assert not answer.done()
        (tmp_path / "release").touch()
        assert (held.result(60).status_code, answer.result(60).status_code) == (200, 200)
        assert len(set(executions(tmp_path))) == 2


def test_no_other_worker_in_time_gives_the_status_of_the_answer(tmp_path: Path) -> None:
    with serving(*ADMIN, "--retry-on", "503", "--queue-timeout", "1s") as server, Background(server.url) as background:
        held = background.get("/hold", params={"record": str(tmp_path)})
        eventually((tmp_path / "entered").exists, "one worker held")
        answer = ask(server, tmp_path, "/status", status="503")
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"
        assert "a failure" not in answer.text
        (tmp_path / "release").touch()
        assert held.result(60).status_code == 200


@row("the answer broke after its head was sent")
def test_broken_after_the_head(tmp_path: Path) -> None:
    """Over HTTP/2: test_crash.py."""
    signs = ("--retry-on", "died,error,timeout,4xx,5xx", "--retries", "5")
    with serving(*ADMIN, *signs) as server, RawConnection(server.url) as connection:
        connection.send(f"GET /breaks?record={tmp_path} HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.head().status == 200
        (tmp_path / "release").touch()
        assert not connection.rest().endswith(b"0\r\n\r\n")


@row("no worker became free within `--queue-timeout`")
def test_waited_too_long(tmp_path: Path) -> None:
    with serving("--queue-timeout", "500ms", workers=1) as server, Background(server.url) as background:
        held = background.get("/hold", params={"record": str(tmp_path)})
        eventually((tmp_path / "entered").exists, "the worker held")
        answer = ask(server, tmp_path, "/status", "POST", status="500")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        (tmp_path / "release").touch()
        assert held.result(60).status_code == 200
        assert executions(tmp_path) == []


@row("as above, for a request that was in the application of a worker that died")
def test_waited_too_long_after_a_death(tmp_path: Path) -> None:
    halt = tmp_path / "halt"
    with (
        serving(*ADMIN, "--queue-timeout", "1s", env={"HALT": str(halt)}) as server,
        Background(server.url) as background,
    ):
        halt.touch()
        held = background.get("/hold", params={"record": str(tmp_path)})
        eventually((tmp_path / "entered").exists, "one worker held")
        answer = ask(server, tmp_path, "/dies")
        assert answer.status_code == 502
        assert len(executions(tmp_path)) == 1
        (tmp_path / "release").touch()
        halt.unlink()
        assert held.result(60).status_code == 200


@row("more than `--queue-size` requests wait")
def test_queue_full(tmp_path: Path) -> None:
    with serving("--queue-size", "1", "--queue-timeout", "60", workers=1) as server, Background(server.url) as background:
        held = background.get("/hold", params={"record": str(tmp_path)})
        eventually((tmp_path / "entered").exists, "the worker held")
        answers = [background.get("/") for _ in range(8)]
        eventually(lambda: any(answer.done() for answer in answers), "an answer at once")
        refused = next(answer.result() for answer in answers if answer.done())
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert not held.done()
        (tmp_path / "release").touch()
        assert held.result(60).status_code == 200


@row("the application did not begin its answer within `--timeout`")
@pytest.mark.parametrize(
    ("method", "signs", "expected", "ran"),
    [("GET", (), 504, 1), ("GET", ("--retry-on", "timeout"), 200, 2), ("POST", ("--retry-on", "timeout"), 504, 1)],
)
def test_too_slow(method: str, signs: tuple[str, ...], expected: int, ran: int, tmp_path: Path) -> None:
    with serving(*ADMIN, "--timeout", "1s", *signs) as server:
        answer = ask(server, tmp_path, "/hangs", method)
        assert (answer.status_code, len(executions(tmp_path))) == (expected, ran)


@row("a file of the answer could not be taken: too many open files")
def test_no_descriptor_for_a_file() -> None:
    with serving(workers=1) as server, RawConnection(server.url) as connection:
        connection.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.response().status == 200
        taken = {int(name) for name in os.listdir(f"/proc/{server.pid}/fd")}
        limit = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
        free = next(number for number in range(10_000) if number not in taken)
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (free, limit[1]))
        connection.send("GET /file HTTP/1.1\r\nHost: localhost\r\n\r\n")
        # Nothing of the answer has gone out: there is still room for an honest status.
        assert connection.response().status == 500
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, limit)
        server.wait_for_log("a file that worker 1 answers with could not be taken: too many open files")
        assert httpx.get(server.url, timeout=60).status_code == 200


@row("a WebSocket's worker died")
def test_websocket() -> None:
    with Server("plain_asgi:app") as server:
        with connect(server.url.replace("http", "ws", 1) + "/echo", compression=None) as socket:
            socket.send("die")
            with pytest.raises(ConnectionClosed) as closed:
                socket.recv(30)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code in (1011, 1012)


@row("further attempts are used up: number, time or budget")
@pytest.mark.parametrize(
    ("limits", "ran"),
    [(("--retries", "0"), 1), (("--retries", "3"), 4), (("--retries", "3", "--retry-timeout", "1ms"), 1)],
)
def test_number_and_time(limits: tuple[str, ...], ran: int, tmp_path: Path) -> None:
    with serving(*ADMIN, "--retry-on", "503", *limits) as server:
        answer = ask(server, tmp_path, "/status", status="503", always="1")
        assert answer.status_code == 503
        assert answer.text.endswith("in pieces")
        assert len(executions(tmp_path)) == ran


def test_budget(tmp_path: Path) -> None:
    """An application that always fails: three more attempts, then its failures are passed on, and the log says so once."""
    with serving(*ADMIN, "--retry-on", "503") as server:
        for _ in range(8):
            assert ask(server, tmp_path, "/status", status="503", always="1").status_code == 503
        assert 8 + 3 <= len(executions(tmp_path)) < 8 + 8
        server.wait_for_log(r"\(--retry-budget\)")
        assert server.log().count("(--retry-budget)") == 1


@pytest.mark.parametrize(("sign", "hint"), [("http_503", "here it is 503"), ("200", None), ("never,503", "never stands alone")])
def test_a_sign_that_is_none(sign: str, hint: str | None) -> None:
    ended = run_to_end("check", "failover:app", "--retry-on", sign)
    assert ended.code != 0
    assert "--retry-on" in ended.errors
    assert "header:NAME" in ended.errors
    assert hint is None or hint in ended.errors
