"""The end of the workers: also where something never finishes, everybody gets to run its shutdown."""

import signal
import time
from pathlib import Path

import httpx
import pytest

from harness import Server, eventually

ASGI = """
import asyncio, atexit, os, pathlib
here = pathlib.Path(__file__).parent
def note(what):
    (here / f"{what}-{os.getpid()}").touch()
atexit.register(note, "atexit")
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                note("shutdown")
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"begun", "more_body": True})
    try:
        await asyncio.Event().wait()
    finally:
        note("broken-off")
"""

WSGI = """
import atexit, os, pathlib, time
here = pathlib.Path(__file__).parent
def note(what):
    (here / f"{what}-{os.getpid()}").touch()
atexit.register(note, "atexit")
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    def parts():
        yield b"begun"
        while True:
            time.sleep(0.05)
    return parts()
"""


def names(directory: Path, what: str) -> set[int]:
    return {int(path.name.rpartition("-")[2]) for path in directory.glob(f"{what}-*")}


@pytest.mark.parametrize("signals", [[signal.SIGTERM], [signal.SIGTERM, signal.SIGTERM], [signal.SIGQUIT]])
@pytest.mark.parametrize("code", [ASGI, WSGI], ids=["asgi", "wsgi"])
def test_workers_run_their_shutdown_beside_an_answer_without_end(
    tmp_path: Path, code: str, signals: list[signal.Signals]
) -> None:
    (tmp_path / "site_app.py").write_text(code)
    # The second signal comes long before the end of the grace.
    grace = "1s" if len(signals) == 1 else "600s"
    with Server("site_app:app", "--graceful-timeout", grace, workers=2, cwd=tmp_path) as server:
        workers = set(server.wait_for_workers(2))
        eventually(lambda: server.log().count(" ready (pid") == 2, "both workers ready")
        with httpx.stream("GET", server.url, timeout=60) as response:
            # Kept: without its iterator the response is closed.
            pieces = response.iter_bytes()
            assert next(pieces) == b"begun"
            started = time.monotonic()
            for number in signals:
                server.process.send_signal(number)
                if len(signals) > 1:
                    server.wait_for_log("stopping: 1 connection may finish")
            assert server.process.wait(60) == 0
            assert time.monotonic() - started < 30
    server.expect_nothing_left()
    # Also the one whose answer did not end.
    assert names(tmp_path, "atexit") == workers
    if code is ASGI:
        assert names(tmp_path, "shutdown") == workers
        assert len(names(tmp_path, "broken-off")) == 1
