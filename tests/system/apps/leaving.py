"""A Starlette application that tells what it does when its clients or its worker leave."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

RECORD = Path(os.environ["RECORD"])
is_stopping = False


def note(line: str) -> None:
    with RECORD.open("a") as file:
        file.write(line + "\n")


@contextlib.asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[None]:
    global is_stopping
    yield
    is_stopping = True
    note("shutdown")
    await asyncio.sleep(1)


async def idle(_: Request) -> Response:
    async def stream() -> AsyncIterator[bytes]:
        try:
            yield b": hello\n\n"
            await asyncio.sleep(1000)
        finally:
            note("stream ended")

    return StreamingResponse(stream(), media_type="text/event-stream")


async def work(_: Request) -> Response:
    if is_stopping:
        note("request during shutdown")
    await asyncio.sleep(0.01)
    return PlainTextResponse("worked")


async def unusual(_: Request) -> Response:
    return Response(b"", status_code=299)


app = Starlette(
    routes=[Route("/idle", idle), Route("/work", work, methods=["POST"]), Route("/unusual", unusual)], lifespan=lifespan
)
