"""Applications that take their time, and some that ask for it. Each waits until the test lets it go on: no sleeping by the clock."""

import asyncio
import time
from pathlib import Path
from urllib.parse import parse_qs

import monoceros

try:
    monoceros.extend_deadline(5)
except RuntimeError as error:
    print(f"at import: {error}", flush=True)


def wait_for(file: Path) -> None:
    while not file.exists():
        time.sleep(0.01)


def wsgi(environ, start_response):
    query = parse_qs(environ["QUERY_STRING"])
    directory = Path(query["in"][0])
    if "more" in query:
        monoceros.extend_deadline(float(query["more"][0]))
    if environ["PATH_INFO"].endswith("/half"):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return halves(directory)
    (directory / "entered").touch()
    wait_for(directory / "go")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"whole"]


def halves(directory: Path):
    yield b"first"
    (directory / "entered").touch()
    wait_for(directory / "go")
    yield b"second"


async def asgi(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError("only http")
    query = parse_qs(scope["query_string"].decode())
    directory = Path(query["in"][0])
    more = float(query["more"][0]) if "more" in query else None
    if more is not None and "thread" in query:
        await asyncio.to_thread(monoceros.extend_deadline, more)
    elif more is not None:
        await asyncio.create_task(ask_for(more))
    (directory / "entered").touch()
    while not (directory / "go").exists():
        await asyncio.sleep(0.01)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"whole"})


async def ask_for(seconds: float) -> None:
    monoceros.extend_deadline(seconds)
