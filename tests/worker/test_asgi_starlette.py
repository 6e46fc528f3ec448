"""A real application: Starlette, with what it uses of the interface."""

import asyncio
import os

import pytest

from front import Kind, Phase, decode_response_head

pytest.importorskip("starlette")

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.endpoints import WebSocketEndpoint
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles


class AddHeader(BaseHTTPMiddleware):
    async def dispatch(self, request, call_next):
        response = await call_next(request)
        response.headers["x-middleware"] = "yes"
        return response


def application(directory):
    async def numbers():
        for number in range(5):
            yield f"{number}\n"
            await asyncio.sleep(0.001)

    async def endless():
        try:
            while True:
                yield b"tick\n"
                await asyncio.sleep(0.005)
        finally:
            print("generator closed", flush=True)

    def threaded():
        yield from (b"a", b"b")

    async def work():
        await asyncio.sleep(0.05)
        print("background", flush=True)

    async def form(request):
        form = await request.form()
        return JSONResponse({"name": form["name"], "size": len(await form["file"].read())})

    async def state(request):
        return JSONResponse({"state": request.state.value, "client": request.client.host, "url": str(request.url)})

    async def whole(request):
        return PlainTextResponse(str(len(await request.body())))

    async def chunks(request):
        return PlainTextResponse(" ".join([str(len(chunk)) async for chunk in request.stream()]))

    def fail(request):
        raise ValueError("view failed")

    class Echo(WebSocketEndpoint):
        encoding = "json"

        async def on_receive(self, websocket, data):
            await websocket.send_json({"you": data})

        async def on_disconnect(self, websocket, close_code):
            print("websocket closed", close_code, flush=True)

    async def denying(websocket):
        await websocket.send_denial_response(PlainTextResponse("not you", status_code=418))

    async def lifespan(app):
        print("up", flush=True)
        yield {"value": 42}
        print("down", flush=True)

    import contextlib

    return Starlette(
        routes=[
            Route("/stream", lambda request: StreamingResponse(numbers())),
            Route("/threaded", lambda request: StreamingResponse(threaded())),
            Route("/endless", lambda request: StreamingResponse(endless(), media_type="text/event-stream")),
            Route("/background", lambda request: PlainTextResponse("ok", background=BackgroundTask(work))),
            Route("/file", lambda request: FileResponse(directory / "file.bin")),
            Route("/form", form, methods=["POST"]),
            Route("/whole", whole, methods=["POST"]),
            Route("/chunks", chunks, methods=["POST"]),
            Route("/state", state),
            Route("/fail", fail),
            Mount("/static", StaticFiles(directory=directory)),
            WebSocketRoute("/echo", Echo),
            WebSocketRoute("/denied", denying),
        ],
        lifespan=contextlib.asynccontextmanager(lifespan),
    )


@pytest.fixture(params=[False, True], ids=["plain", "middleware"])
def worker(request, asgi, tmp_path):
    (tmp_path / "file.bin").write_bytes(os.urandom(300_000))
    app = application(tmp_path)
    if request.param:
        app.user_middleware.append(Middleware(AddHeader))
    worker = asgi(app, lifespan="on")
    worker.directory = tmp_path
    return worker


def test_streaming_response(worker):
    assert worker.get("/stream").body == b"0\n1\n2\n3\n4\n"
    assert worker.get("/threaded").body == b"ab"


def test_endless_stream_ends_with_its_client(worker):
    exchange = worker.request("GET", "/endless")
    assert exchange.head()[0] == 200
    for _ in range(3):
        exchange.expect(Kind.DATA)
    exchange.cancel()
    while exchange.next_frame().kind != Kind.DONE:
        pass
    worker.wait_log("generator closed")
    assert "Traceback" not in worker.log()


def test_background_task(worker):
    exchange = worker.request("GET", "/background")
    assert exchange.response().body == b"ok"
    exchange.done()
    assert "background" in worker.log()


def test_file_response(worker):
    content = (worker.directory / "file.bin").read_bytes()
    response = worker.get("/file")
    assert response.body == content and response["content-length"] == b"300000"
    assert worker.get("/file", [("range", "bytes=10-19")]).body == content[10:20]
    assert worker.get("/static/file.bin").body == content
    assert worker.fetch("HEAD", "/file").body == b""
    assert worker.get("/static/none").status == 404


def test_file_response_uses_pathsend(asgi, tmp_path):
    (tmp_path / "file.bin").write_bytes(b"content")
    worker = asgi(application(tmp_path), lifespan="on")
    assert [(part.offset, part.length) for part in worker.get("/file").files] == [(0, 7)]


def test_bodies(worker):
    boundary = [
        b"--x", b'content-disposition: form-data; name="name"', b"", b"N", b"--x",
        b'content-disposition: form-data; name="file"; filename="f"', b"", bytes(100_000), b"--x--", b"",
    ]
    response = worker.fetch("POST", "/form", [("content-type", "multipart/form-data; boundary=x")], b"\r\n".join(boundary))
    assert response.json() == {"name": "N", "size": 100_000}
    assert worker.fetch("POST", "/whole", file_body=bytes(700_000)).body == b"700000"
    exchange = worker.request("POST", "/chunks", stream=True)
    exchange.body(bytes(10))
    exchange.body(bytes(20), end=True)
    assert exchange.response().body.startswith(b"10 20")
    exchange.done()


def test_state_and_url(worker):
    response = worker.get("/state?q=1", [("host", "example.org")])
    assert response.json() == {"state": 42, "client": "127.0.0.1", "url": "http://example.org/state?q=1"}
    worker.drain()
    assert worker.wait_exit() == 0
    assert worker.log() == "up\ndown\n"


def test_a_failing_view_answers_500_and_is_told(worker):
    response = worker.get("/fail")
    assert (response.status, response.body) == (500, b"Internal Server Error")
    assert "ValueError: view failed" in worker.wait_log("(its answer was 500): GET /fail")


def test_websocket_endpoint(worker):
    exchange = worker.websocket("/echo")
    exchange.expect(Kind.ACCEPT)
    exchange.message('{"a": 1}')
    assert exchange.incoming() == '{"you":{"a":1}}'
    exchange.close(1001)
    exchange.done()
    worker.wait_log("websocket closed 1001")


def test_websocket_denial(worker):
    exchange = worker.websocket("/denied")
    response = exchange.response()
    assert (response.status, response.body) == (418, b"not you")
    exchange.done()
    exchange = worker.websocket("/missing")
    assert exchange.response().status == 403
    exchange.done()


def test_drain_ends_open_websockets(worker):
    exchange = worker.websocket("/echo")
    assert decode_response_head(exchange.expect(Kind.ACCEPT).payload)[0] == 101
    worker.drain()
    assert exchange.expect(Kind.CLOSE).close() == (1012, "")
    exchange.done()
    assert worker.wait_exit() == 0
    assert exchange.phase == Phase.FINISHED
    assert "websocket closed 1012\ndown\n" in worker.log()
