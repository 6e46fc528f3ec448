"""The ASGI application of most system tests. Standard library only; every route does one observable thing."""

import asyncio
import hashlib
import json
import os
import signal
import sys
from urllib.parse import parse_qs

BLOCK = bytes(range(256)) * 256  # 64 KiB
STARTED = []


def record(directory, name, text):
    """Appends one line to a file; O_APPEND makes it atomic between workers."""
    descriptor = os.open(os.path.join(directory, name), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(descriptor, f"{text}\n".encode())
    os.close(descriptor)


async def wait_for(path):
    """Waits until a file exists: the test decides when to go on. Gives up after a minute."""
    for _ in range(12_000):
        if os.path.exists(path):
            return
        await asyncio.sleep(0.005)


async def lifespan(scope, receive, send):
    directory = os.environ.get("LIFESPAN_RECORD")
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            if os.environ.get("LIFESPAN_FAILS"):
                await send({"type": "lifespan.startup.failed", "message": "the database of the test is not there"})
                return
            STARTED.append(os.getpid())
            if "state" in scope:
                scope["state"]["started_by"] = os.getpid()
            if directory:
                record(directory, "lifespan", f"startup {os.getpid()}")
            await send({"type": "lifespan.startup.complete"})
        elif message["type"] == "lifespan.shutdown":
            if directory:
                record(directory, "lifespan", f"shutdown {os.getpid()}")
            await send({"type": "lifespan.shutdown.complete"})
            return


async def respond(send, body, status=200, headers=()):
    body = body.encode() if isinstance(body, str) else body
    fields = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode()), *headers]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body})


async def parts_of(receive):
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionError("the client went away")
        yield message.get("body", b"")
        if not message.get("more_body", False):
            return


async def hello(scope, receive, send, query):
    await respond(send, "hello")


async def facts(scope, receive, send, query):
    def plain(value):
        if isinstance(value, bytes):
            return value.decode("latin-1")
        if isinstance(value, dict):
            return {str(key): plain(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [plain(item) for item in value]
        return value

    loop = type(asyncio.get_running_loop()).__module__
    await respond(send, json.dumps({"scope": plain(scope), "pid": os.getpid(), "loop": loop, "started": STARTED}))


async def pid(scope, receive, send, query):
    await respond(send, str(os.getpid()))


async def echo(scope, receive, send, query):
    await respond(send, b"".join([part async for part in parts_of(receive)]))


async def echo_stream(scope, receive, send, query):
    """Answers every part of the body as soon as it came: works only where the request is streamed."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    async for part in parts_of(receive):
        if part:
            await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body"})


async def digest(scope, receive, send, query):
    checksum, length = hashlib.sha256(), 0
    async for part in parts_of(receive):
        checksum.update(part)
        length += len(part)
    await respond(send, json.dumps({"length": length, "sha256": checksum.hexdigest(), "pid": os.getpid()}))


async def download(scope, receive, send, query):
    length = int(query["bytes"])
    fields = [(b"content-type", b"application/octet-stream"), (b"content-length", str(length).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    while length > 0:
        await send({"type": "http.response.body", "body": BLOCK[: min(length, len(BLOCK))], "more_body": True})
        length -= len(BLOCK)
    await send({"type": "http.response.body"})


async def hold(scope, receive, send, query):
    record(query["record"], "entered", os.getpid())
    await wait_for(os.path.join(query["record"], "release"))
    await respond(send, "held")


async def steps(scope, receive, send, query):
    """A stream whose next part comes only when the test asks for it: the parts cannot have been collected."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    for number in range(int(query["count"])):
        if number:
            await wait_for(os.path.join(query["record"], f"release-{number}"))
        await send({"type": "http.response.body", "body": f"data: {number}\n\n".encode(), "more_body": True})
    await send({"type": "http.response.body"})


async def count(scope, receive, send, query):
    body = b"".join([part async for part in parts_of(receive)])
    record(query["record"], query.get("name", "executions"), f"{os.getpid()} {scope['method']}")
    await respond(send, body or b"counted")


async def die_once(scope, receive, send, query):
    record(query["record"], "executions", os.getpid())
    try:
        os.close(os.open(os.path.join(query["record"], "died"), os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        await respond(send, "alive")
        return
    os.kill(os.getpid(), signal.SIGKILL)


async def until_disconnect(scope, receive, send, query):
    """Streams until the client goes away, and leaves a trace when it was told so."""
    async for _ in parts_of(receive):
        pass
    record(query["record"], "entered", os.getpid())
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"first\n", "more_body": True})
    message = await receive()
    record(query["record"], "events", message["type"])


async def background(scope, receive, send, query):
    """Goes on working after its answer."""
    await respond(send, "answered")
    record(query["record"], "events", "answered")
    await wait_for(os.path.join(query["record"], "release"))
    record(query["record"], "events", "worked")


async def raises(scope, receive, send, query):
    raise RuntimeError("raised on purpose")


async def prints(scope, receive, send, query):
    print(f"on stdout: {query['word']}", flush=True)
    print(f"on stderr: {query['word']}", file=sys.stderr, flush=True)
    await respond(send, "printed")


async def pathsend(scope, receive, send, query):
    assert "http.response.pathsend" in scope["extensions"]
    length = str(os.path.getsize(query["path"])).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
    await send({"type": "http.response.pathsend", "path": query["path"]})


async def trailers(scope, receive, send, query):
    assert "http.response.trailers" in scope["extensions"]
    fields = [(b"content-type", b"text/plain"), (b"trailer", b"x-checksum")]
    await send({"type": "http.response.start", "status": 200, "headers": fields, "trailers": True})
    await send({"type": "http.response.body", "body": b"body"})
    await send({"type": "http.response.trailers", "headers": [(b"x-checksum", b"abc")]})


async def early_hint(scope, receive, send, query):
    assert "http.response.early_hint" in scope["extensions"]
    await send({"type": "http.response.early_hint", "links": [b"</style.css>; rel=preload; as=style"]})
    await send({"type": "http.response.early_hint", "links": [b"</script.js>; rel=preload; as=script"]})
    await respond(send, "hinted")


ROUTES = {
    "/": hello,
    "/facts": facts,
    "/pid": pid,
    "/echo": echo,
    "/echo-stream": echo_stream,
    "/digest": digest,
    "/download": download,
    "/hold": hold,
    "/steps": steps,
    "/count": count,
    "/die-once": die_once,
    "/until-disconnect": until_disconnect,
    "/background": background,
    "/raises": raises,
    "/prints": prints,
    "/pathsend": pathsend,
    "/trailers": trailers,
    "/early-hint": early_hint,
}


async def websocket(scope, receive, send):
    assert (await receive())["type"] == "websocket.connect"
    query = {name: values[-1] for name, values in parse_qs(scope["query_string"].decode()).items()}
    if scope["path"] == "/refuse":
        await send({"type": "websocket.close"})
        return
    if scope["path"] == "/deny":
        assert "websocket.http.response" in scope["extensions"]
        await send({"type": "websocket.http.response.start", "status": 401, "headers": [(b"x-reason", b"no ticket")]})
        await send({"type": "websocket.http.response.body", "body": b"ticket, please"})
        return
    subprotocol = "chat" if "chat" in scope["subprotocols"] else None
    await send({"type": "websocket.accept", "subprotocol": subprotocol, "headers": [(b"x-worker", b"yes")]})
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            if "record" in query:
                record(query["record"], "events", f"disconnect {message['code']}")
            return
        if message.get("text") == "close":
            await send({"type": "websocket.close", "code": 4001, "reason": "asked for it"})
            return
        if message.get("text") == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if message.get("text") is not None:
            await send({"type": "websocket.send", "text": message["text"]})
        else:
            await send({"type": "websocket.send", "bytes": message["bytes"]})


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await lifespan(scope, receive, send)
    elif scope["type"] == "websocket":
        await websocket(scope, receive, send)
    else:
        query = {name: values[-1] for name, values in parse_qs(scope["query_string"].decode()).items()}
        route = ROUTES.get(scope["path"])
        if route is None:
            await respond(send, "no such route", 404)
        else:
            await route(scope, receive, send, query)


print(f"imported by {os.getpid()}", file=sys.stderr, flush=True)
