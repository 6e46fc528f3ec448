"""A Starlette application: lifespan state, WebSocket, server-sent events, background task, disconnect."""

import asyncio
import contextlib
import hashlib
import os
import pathlib

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocketDisconnect


def note(request, text):
    with open(os.path.join(request.query_params["record"], "events"), "a") as events:
        events.write(f"{text}\n")


async def wait_for(path):
    for _ in range(12_000):
        if os.path.exists(path):
            return
        await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def lifespan(app):
    yield {"started_by": os.getpid(), "counter": [0]}


async def state(request):
    request.state.counter[0] += 1
    return JSONResponse({"started_by": request.state.started_by, "pid": os.getpid(), "count": request.state.counter[0]})


async def facts(request):
    return JSONResponse(
        {
            "url": str(request.url),
            "client": list(request.client) if request.client else None,
            "version": request.scope["http_version"],
        }
    )


async def events(request):
    """Each event waits for the test to have seen the one before: a buffering server would never deliver any."""
    record = request.query_params["record"]

    async def stream():
        for number in range(int(request.query_params["count"])):
            if number:
                await wait_for(os.path.join(record, f"release-{number}"))
            yield f"id: {number}\ndata: event {number}\n\n"

    return StreamingResponse(stream(), media_type="text/event-stream")


async def ticks(request):
    async def stream():
        for number in range(5):
            yield f"id: {number}\ndata: tick {number}\n\n"
            await asyncio.sleep(0.05)

    return StreamingResponse(stream(), media_type="text/event-stream")


async def upload(request):
    checksum, length = hashlib.sha256(), 0
    async for part in request.stream():
        checksum.update(part)
        length += len(part)
    return JSONResponse({"length": length, "sha256": checksum.hexdigest()})


async def form(request):
    async with request.form() as fields:
        content = await fields["file"].read()
        return JSONResponse({"name": fields["file"].filename, "sha256": hashlib.sha256(content).hexdigest()})


async def download(request):
    length = request.path_params["length"]
    block = bytes(range(256)) * 1024

    async def stream():
        left = length
        while left > 0:
            yield block[: min(left, len(block))]
            left -= len(block)

    return StreamingResponse(stream(), media_type="application/octet-stream")


async def background(request):
    async def work():
        await wait_for(os.path.join(request.query_params["record"], "release"))
        note(request, "worked")

    return PlainTextResponse("answered", background=BackgroundTask(work))


async def disconnect(request):
    note(request, "entered")
    while not await request.is_disconnected():
        await asyncio.sleep(0.01)
    note(request, "disconnected")
    return PlainTextResponse("nobody reads this")


async def echo(websocket):
    await websocket.accept(subprotocol="echo" if "echo" in websocket.scope["subprotocols"] else None)
    try:
        while True:
            message = await websocket.receive()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message["code"])
            if message.get("text") is not None:
                await websocket.send_text(message["text"])
            else:
                await websocket.send_bytes(message["bytes"])
    except WebSocketDisconnect as gone:
        if "record" in websocket.query_params:
            note(websocket, f"disconnect {gone.code}")


async def page(request):
    return HTMLResponse((pathlib.Path(__file__).parent / "browser_page.html").read_text())


app = Starlette(
    lifespan=lifespan,
    routes=[
        Route("/", page),
        Route("/state", state),
        Route("/facts", facts),
        Route("/events", events),
        Route("/ticks", ticks),
        Route("/upload", upload, methods=["POST", "PUT"]),
        Route("/form", form, methods=["POST"]),
        Route("/download/{length:int}", download),
        Route("/background", background),
        Route("/disconnect", disconnect),
        WebSocketRoute("/echo", echo),
    ],
)
