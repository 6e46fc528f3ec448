"""Tasks deep in a chain of awaits, and event loops that are blocked."""

import asyncio
import time
from pathlib import Path


async def app(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError(scope["type"])
    query = scope["query_string"].decode()
    if scope["path"] == "/deep":
        await outermost(Path(query))
    if scope["path"] == "/blocked":
        blocks_the_loop(float(query))
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if scope["path"] == "/half":
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        # So that it leaves before the loop is blocked.
        await asyncio.sleep(0.2)
        blocks_the_loop(float(query))
    await send({"type": "http.response.body", "body": b"hello"})


async def outermost(directory):
    (directory / "entered").touch()
    await innermost(directory / "release")


async def innermost(path):
    while not path.exists():
        await asyncio.sleep(0.01)


def blocks_the_loop(seconds):
    time.sleep(seconds)
