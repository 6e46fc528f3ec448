"""A plain ASGI application: no framework, standard library only."""

import asyncio
import hashlib
import json
import os
import platform
import time
from pathlib import Path
from urllib.parse import parse_qs

PAGE = (Path(__file__).parent / "page.html").read_bytes()
BLOCK = bytes(range(256)) * 256
MEGABYTE = 1 << 20


async def send_whole(send, body, kind, status=200):
    headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode()), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def send_json(send, value):
    await send_whole(send, json.dumps(value).encode(), b"application/json")


async def page(scope, receive, send):
    await send_whole(send, PAGE, b"text/html; charset=utf-8")


async def facts(scope, receive, send):
    """What the application knows about this request."""
    tls = scope.get("extensions", {}).get("tls")
    client = scope["client"]
    await send_json(
        send,
        {
            "interface": f"ASGI {scope['asgi']['version']}",
            "worker": os.getpid(),
            "protocol": f"HTTP/{scope['http_version']}",
            "scheme": scope["scheme"],
            "tls": {0x0303: "TLS 1.2", 0x0304: "TLS 1.3"}.get(tls["tls_version"]) if tls else None,
            "client": f"{client[0]}:{client[1]}" if client else "Unix socket",
            "python": platform.python_version(),
            "loop": type(asyncio.get_running_loop()).__module__.partition(".")[0],
        },
    )


async def slow(scope, receive, send):
    """Waits without blocking the worker: others are served meanwhile."""
    await asyncio.sleep(3)
    await send_json(send, {"worker": os.getpid()})


async def upload(scope, receive, send):
    """Reads the body part by part, whatever its size."""
    checksum, length, started = hashlib.sha256(), 0, time.perf_counter()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        part = message.get("body", b"")
        checksum.update(part)
        length += len(part)
        if not message.get("more_body", False):
            break
    milliseconds = round((time.perf_counter() - started) * 1000)
    await send_json(
        send, {"bytes": length, "sha256": checksum.hexdigest(), "milliseconds": milliseconds, "worker": os.getpid()}
    )


async def download(scope, receive, send):
    """A stream of up to 100 MB, made while it is sent."""
    query = parse_qs(scope["query_string"].decode())
    length = min(int(query.get("megabytes", ["20"])[0]), 100) * MEGABYTE
    headers = [
        (b"content-type", b"application/octet-stream"),
        (b"content-length", str(length).encode()),
        (b"content-disposition", b'attachment; filename="monoceros.bin"'),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for _ in range(length // len(BLOCK)):
        await send({"type": "http.response.body", "body": BLOCK, "more_body": True})
    await send({"type": "http.response.body"})


async def clock(scope, receive, send):
    """Server-sent events until the browser goes away."""
    headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    gone = asyncio.ensure_future(until_disconnect(receive))
    while not gone.done():
        event = json.dumps({"time": time.strftime("%H:%M:%S"), "worker": os.getpid()})
        await send({"type": "http.response.body", "body": f"data: {event}\n\n".encode(), "more_body": True})
        await asyncio.wait([gone], timeout=1)


async def until_disconnect(receive):
    while (await receive())["type"] != "http.disconnect":
        pass


class Room:
    """Everybody who chats through this worker. Another worker has a room of its own: workers share no memory."""

    def __init__(self):
        self.members = set()

    async def tell(self, **message):
        text = json.dumps({**message, "members": len(self.members), "worker": os.getpid()})
        for send in list(self.members):
            try:
                await send({"type": "websocket.send", "text": text})
            except OSError:
                self.members.discard(send)

    async def chat(self, scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        self.members.add(send)
        try:
            await self.tell(event="joined")
            while (message := await receive())["type"] == "websocket.receive":
                await self.tell(event="said", text=(message.get("text") or "")[:500])
        finally:
            self.members.discard(send)
            await self.tell(event="left")


ROOM = Room()

ROUTES = {
    ("GET", "/"): page,
    ("GET", "/api/facts"): facts,
    ("GET", "/api/slow"): slow,
    ("POST", "/api/upload"): upload,
    ("GET", "/api/download"): download,
    ("GET", "/api/clock"): clock,
}


async def lifespan(receive, send):
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})


async def app(scope, receive, send):
    """The application."""
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    elif scope["type"] == "websocket" and scope["path"] == "/api/chat":
        await ROOM.chat(scope, receive, send)
    elif scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close"})
    # An answer to HEAD is the one to GET, of which the server sends the head alone.
    elif route := ROUTES.get(("GET" if scope["method"] == "HEAD" else scope["method"], scope["path"])):
        await route(scope, receive, send)
    else:
        await send_whole(send, b"There is nothing here.\n", b"text/plain", 404)
