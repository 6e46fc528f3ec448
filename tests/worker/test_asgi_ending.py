"""How an ASGI worker ends: by SIGTERM, at once by SIGQUIT, and what its main task has to do with it."""

import asyncio
import signal
import time

import pytest

from front import Kind, Phase


async def respond(send, body=b""):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


async def lifespan(receive, send):
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    print("shutting down")
    await asyncio.sleep(0.05)
    await send({"type": "lifespan.shutdown.complete"})


async def stream(send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"first", "more_body": True})
    try:
        await asyncio.sleep(100)
    finally:
        print("stream ended")


async def websocket(receive, send):
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] != "websocket.disconnect":
        pass
    print("websocket closed", event["code"])


async def app(scope, receive, send):
    match scope["type"], scope.get("path"):
        case "lifespan", _:
            await lifespan(receive, send)
        case "websocket", _:
            await websocket(receive, send)
        case _, "/stream":
            await stream(send)
        case _, "/wait":
            while (await receive()).get("more_body"):
                pass
            await respond(send, b"waited")
        case _, "/stop":
            asyncio.get_running_loop().stop()
            await respond(send, b"went on")
        case _, "/cancel":
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                if task.get_name() == "monoceros":
                    task.cancel()
            await respond(send, b"went on")


def test_sigterm_takes_nothing_more(asgi):
    worker = asgi(app, lifespan="on", concurrency=1)
    running = worker.request("POST", "/wait", stream=True)
    running.wait_phase(Phase.ENTERED)
    worker.signal(signal.SIGTERM)
    worker.link_frame(Kind.DRAIN)
    running.body(b"", end=True)
    assert running.response().body == b"waited"
    running.done()
    worker.wait_log("shutting down")
    late = worker.request("GET", "/wait")
    assert worker.wait_exit() == 0
    assert late.phase == Phase.HANDED, "the front takes it back"


def test_sigterm_is_told_once(asgi):
    worker = asgi(app, concurrency=1)
    running = worker.request("POST", "/wait", stream=True)
    running.wait_phase(Phase.ENTERED)
    worker.signal(signal.SIGTERM)
    worker.link_frame(Kind.DRAIN)
    worker.signal(signal.SIGTERM)
    worker.drain()
    running.body(b"", end=True)
    assert running.response().body == b"waited"
    assert worker.wait_exit() == 0
    assert [frame.kind for frame in worker.link] == []


def test_a_drained_worker_lets_streams_go_on_and_closes_websockets(asgi):
    worker = asgi(app, lifespan="on")
    streaming = worker.request("GET", "/stream")
    assert streaming.head()[2] == b"first"
    socket = worker.websocket()
    socket.expect(Kind.ACCEPT)
    worker.drain()
    assert socket.expect(Kind.CLOSE).close() == (1012, "")
    socket.done()
    assert streaming.quiet()
    assert "stream ended" not in worker.log()
    # The second sign: it ends, and cleans up.
    started = time.monotonic()
    worker.signal(signal.SIGQUIT)
    assert worker.wait_exit() == 0
    assert time.monotonic() - started < 2
    assert worker.log() == "websocket closed 1012\nstream ended\nshutting down\n"


def test_sigquit_does_not_wait_for_who_does_not_listen(asgi):
    async def stubborn(scope, receive, send):
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            print("shutting down")
        while True:
            try:
                await asyncio.sleep(100)
            except asyncio.CancelledError:
                print("no", scope["type"])

    worker = asgi(stubborn, lifespan="on")
    worker.request().wait_phase(Phase.ENTERED)
    worker.signal(signal.SIGQUIT)
    assert worker.wait_exit(5) == 0
    assert worker.log().startswith("no http\nshutting down\n")


@pytest.mark.parametrize("path", ["/stop", "/cancel"])
def test_an_application_can_neither_stop_the_loop_nor_cancel_the_main_task(asgi, path):
    worker = asgi(app, lifespan="on")
    for _ in range(2):
        assert worker.get(path).body == b"went on"
    worker.drain()
    assert worker.wait_exit() == 0
    assert worker.log() == "shutting down\n"


def test_a_shutdown_that_cancels_every_task_is_completed(asgi):
    async def cancels(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        print("shut down")
        await send({"type": "lifespan.shutdown.complete"})

    worker = asgi(cancels, lifespan="on")
    worker.drain()
    assert worker.wait_exit() == 0
    assert worker.log() == "shut down\n"


def test_threads_of_synchronous_endpoints_are_kept(asgi):
    fastapi = pytest.importorskip("fastapi")
    import threading

    api = fastapi.FastAPI()
    numbers = threading.local()
    made = []

    @api.get("/")
    def endpoint():
        if not hasattr(numbers, "number"):
            made.append(None)
            numbers.number = len(made)
        return numbers.number

    worker = asgi(api, lifespan="on")
    threads = {worker.get().text for _ in range(200)}
    assert threads == {"1"}
