"""Answers and bodies that go wrong: the client gets what is true, the log says what it was."""

import os
from pathlib import Path

import pytest

from harness import Server
from harness.raw import RawConnection
from harness.server import run_to_end

ASGI = """
async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    path = scope["path"]
    if path == "/reads":
        while (await receive()).get("more_body"):
            pass
    lengths = [(b"content-length", b"3"), (b"content-length", b"5")] if path == "/lengths" else []
    await send({"type": "http.response.start", "status": 200, "headers": lengths})
    if path == "/fails":
        await send({"type": "http.response.body", "body": b"part", "more_body": True})
        raise RuntimeError("raised on purpose")
    await send({"type": "http.response.body", "body": b"abcde"})
"""

WSGI = """
def app(environ, start_response):
    def parts():
        yield b"part"
        raise RuntimeError("raised on purpose")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return parts() if environ["PATH_INFO"] == "/fails" else [b"abcde"]
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "asgi.py").write_text(ASGI)
    (tmp_path / "wsgi.py").write_text(WSGI)
    return tmp_path


@pytest.mark.parametrize("reused", [False, True], ids=["new", "reused"])
@pytest.mark.parametrize("app", ["asgi:app", "wsgi:app"])
def test_an_application_that_fails_in_the_middle_is_seen_to(app: str, reused: bool, directory: Path) -> None:
    """A connection that closes without a word makes a browser send the request again, even a POST."""
    with Server(app, cwd=directory) as server, RawConnection(server.url) as connection:
        if reused:
            connection.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert connection.response().body == b"abcde"
        connection.send("POST /fails HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
        assert connection.head().status == 200
        assert connection.rest() == b"4\r\npart\r\n"


def test_two_lengths_are_never_sent(directory: Path) -> None:
    with Server("asgi:app", cwd=directory) as server, RawConnection(server.url) as connection:
        connection.send("GET /lengths HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.response().status == 500
        server.wait_for_log(r"(?i)content-length")
        connection.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.response().body == b"abcde"


def test_a_streamed_body_has_the_same_limits(directory: Path) -> None:
    flags = ("--stream-request", "/reads", "--max-body", "10k", "--body-timeout", "1s")
    head = "POST /reads HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    with Server("asgi:app", *flags, cwd=directory) as server:
        with RawConnection(server.url) as connection:
            connection.send(head + ("1000\r\n" + "x" * 4096 + "\r\n") * 5)
            assert connection.response().status == 413
        with RawConnection(server.url) as connection:
            connection.send(head + "5\r\nhello\r\n")
            assert connection.response().status == 408


def test_a_missing_directory_for_temporary_files_is_found_at_start(directory: Path) -> None:
    missing = directory / "missing"
    ended = run_to_end("wsgi:app", "--bind", "127.0.0.1:0", cwd=directory, env={"TMPDIR": str(missing)})
    assert ended.code != 0
    assert str(missing) in ended.errors and "TMPDIR" in ended.errors, ended.errors


def test_a_directory_for_temporary_files_that_vanishes_is_logged(directory: Path) -> None:
    temporary = directory / "temporary"
    temporary.mkdir()
    with (
        Server("wsgi:app", "--max-body", "10M", cwd=directory, env={"TMPDIR": str(temporary)}) as server,
        RawConnection(server.url) as connection,
    ):
        temporary.rmdir()
        connection.send(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000000\r\n\r\n" + bytes(1_000_000))
        assert connection.response().status == 500
        server.wait_for_log(rf"a request body cannot be stored in {temporary} \(TMPDIR\): No such file")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_static_file_that_cannot_be_read_is_403_and_logged(directory: Path) -> None:
    static = directory / "static"
    static.mkdir()
    (static / "secret").write_text("secret")
    (static / "secret").chmod(0)
    with Server("wsgi:app", "--static-dir", f"/static={static}", cwd=directory) as server:
        with RawConnection(server.url) as connection:
            connection.send("GET /static/secret HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert connection.response().status == 403
        server.wait_for_log(rf"{static}/secret cannot be read: Permission denied")
