"""Requests that take too long, deep in a chain of awaits, or by keeping the event loop."""

import asyncio
import time


async def app(scope, receive, send):
    if scope["type"] != "http":
        raise RuntimeError(scope["type"])
    if scope["path"] == "/deep":
        await outermost()
    if scope["path"] == "/blocked":
        blocks_the_loop()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


async def outermost():
    async for _ in middle():
        pass


async def middle():
    await asyncio.ensure_future(innermost())
    yield


async def innermost():
    await asyncio.sleep(600)


def blocks_the_loop():
    time.sleep(4)
