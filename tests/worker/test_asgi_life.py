"""The life of an ASGI worker: lifespan, slots, recall, drain, signals, the end of the link."""

import asyncio
import signal
import struct

import pytest

from front import EXIT_APP_LOAD, EXIT_LINK, Kind, LinkClosed, Phase, Worker


async def respond(send, body=b""):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


async def until_disconnect(receive):
    while (await receive())["type"] != "http.disconnect":
        pass


# --- Lifespan ---------------------------------------------------------------------------------------------------------


async def with_lifespan(scope, receive, send):
    if scope["type"] == "lifespan":
        assert scope["asgi"] == {"version": "3.0", "spec_version": "2.0"}
        assert (await receive())["type"] == "lifespan.startup"
        await asyncio.sleep(0.01)
        scope["state"]["list"] = ["started"]
        scope["state"]["name"] = "shared"
        await send({"type": "lifespan.startup.complete"})
        assert (await receive())["type"] == "lifespan.shutdown"
        await asyncio.sleep(0.01)
        print("shut down", scope["state"]["list"])
        await send({"type": "lifespan.shutdown.complete"})
        print("returning")
        return
    scope["state"]["list"].append(scope["path"])
    scope["state"]["name"] += scope["path"]
    await respond(send, (scope["state"]["name"] + str(scope["state"]["list"])).encode())


@pytest.mark.parametrize("lifespan", ["auto", "on"])
def test_lifespan(asgi, lifespan):
    worker = asgi(with_lifespan, lifespan=lifespan, concurrency=7)
    assert worker.ready == ("asgi", 7)
    assert worker.get("/a").text == "shared/a['started', '/a']"
    # The state is copied, not deeply.
    assert worker.get("/b").text == "shared/b['started', '/a', '/b']"
    worker.drain()
    assert worker.wait_exit() == 0
    assert worker.log() == "shut down ['started', '/a', '/b']\nreturning\n"


def test_requests_during_startup_are_impossible_ready_comes_after_it(asgi):
    async def app(scope, receive, send):
        await receive()
        await asyncio.sleep(0.1)
        print("started")
        await send({"type": "lifespan.startup.complete"})
        await receive()

    worker = asgi(app, lifespan="on")
    assert worker.log() == "started\n"


def test_lifespan_off_is_not_called(asgi):
    async def app(scope, receive, send):
        assert scope["type"] == "http"
        await respond(send, b"ok")

    assert asgi(app, lifespan="off").get().body == b"ok"


def raising(error):
    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            raise error
        await respond(send, b"ok")

    return app


def raises_at_call(scope, receive, send):
    if scope["type"] == "lifespan":
        raise NotImplementedError
    return respond(send, b"ok")


async def returns(scope, receive, send):
    if scope["type"] != "lifespan":
        await respond(send, b"ok")


@pytest.mark.parametrize("app", [raising(ValueError("no lifespan")), raises_at_call, returns])
def test_auto_serves_applications_without_lifespan(asgi, app):
    worker = asgi(app, lifespan="auto")
    assert worker.get().body == b"ok"
    assert worker.log() == ""


def test_auto_tells_of_an_exception_during_startup(asgi):
    async def app(scope, receive, send):
        await receive()
        if scope["type"] == "lifespan":
            raise ValueError("no database")
        await respond(send, b"ok")

    worker = asgi(app, lifespan="auto")
    assert worker.get().body == b"ok"
    assert "during startup" in worker.log() and "ValueError: no database" in worker.log()


async def fails(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "Traceback:\n  line\nOSError: no database"})
    raise OSError("no database")


@pytest.mark.parametrize("app, lifespan, message, traceback", [
    (fails, "auto", "the application's startup failed: OSError: no database", "  line\nOSError"),
    (fails, "on", "the application's startup failed: OSError: no database", "  line\nOSError"),
    (raising(KeyError("x")), "on", "raised <class 'KeyError'> during startup", "KeyError: 'x'"),
    (raising(KeyError("x" * 200_000)), "on", "raised <class 'KeyError'>", "Traceback"),
    (raises_at_call, "on", "raised <class 'NotImplementedError'>", "in raises_at_call"),
    (returns, "on", "without lifespan.startup.complete", ""),
])
@pytest.mark.parametrize("event_loop", ["asyncio", "uvloop"])
def test_failed_startup(event_loop, app, lifespan, message, traceback):
    with Worker(app, "asgi", lifespan=lifespan, event_loop=event_loop, wait_ready=False) as worker:
        failure = worker.boot_failure()
        assert failure["stage"] == "lifespan"
        assert message in failure["message"] and "\n" not in failure["message"]
        assert traceback in failure["traceback"] and len(failure["traceback"]) < 70_000
        assert worker.wait_exit() == EXIT_APP_LOAD
        assert worker.log() == ""


def test_failed_shutdown_is_told(asgi):
    async def app(scope, receive, send):
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.failed", "message": "stuck"})

    worker = asgi(app, lifespan="on")
    worker.drain()
    assert worker.wait_exit() == 0
    assert "shutdown failed: stuck" in worker.log()


@pytest.mark.parametrize("message", ["lifespan.shutdown.complete", "lifespan.other", "http.response.start"])
def test_lifespan_misuse(asgi, message):
    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": message})
        await respond(send, b"ok")

    worker = asgi(app, lifespan="auto")
    assert worker.get().body == b"ok"
    assert f"unexpected message \"{message}\"" in worker.log()


def test_an_event_loop_that_is_not_installed():
    def hide():
        import sys

        sys.modules["uvloop"] = None

    with Worker(returns, "asgi", event_loop="uvloop", child_setup=hide, wait_ready=False) as worker:
        failure = worker.boot_failure()
        assert "event loop" in failure["message"] and "pip install uvloop" in failure["hint"]
        assert worker.wait_exit() == EXIT_APP_LOAD
    with Worker(raising(ValueError()), "asgi", event_loop="auto", child_setup=hide) as worker:
        assert worker.get().body == b"ok"


def test_the_loop_is_the_one_asked_for(asgi, request):
    async def app(scope, receive, send):
        await respond(send, type(asyncio.get_running_loop()).__module__.encode())

    wanted = request.node.callspec.params["asgi"]
    assert asgi(app).get().text.startswith(wanted)


# --- Slots and recall -------------------------------------------------------------------------------------------------


async def one_at_a_time(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"", "more_body": True})
    body = b""
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            return
        body += event["body"]
        if not event["more_body"]:
            break
    await send({"type": "http.response.body", "body": body})


def test_more_requests_than_slots_wait_in_order(asgi):
    worker = asgi(one_at_a_time, concurrency=2)
    exchanges = [worker.request("POST", f"/{number}", stream=True) for number in range(5)]
    for exchange in exchanges[:2]:
        assert exchange.head()[0] == 200
    # What follows a waiting request is kept for it.
    exchanges[3].body(b"kept", end=True)
    assert exchanges[2].quiet()
    assert [exchange.phase for exchange in exchanges] == [Phase.ENTERED] * 2 + [Phase.HANDED] * 3
    exchanges[0].body(b"zero", end=True)
    exchanges[0].head_sent = True
    assert exchanges[0].response().body == b"zero"
    exchanges[0].done()
    assert exchanges[2].head()[0] == 200
    assert exchanges[3].phase == Phase.HANDED
    exchanges[1].body(b"one", end=True)
    assert exchanges[3].response().body == b"kept"
    for exchange in (exchanges[2], exchanges[4]):
        exchange.body(b"", end=True)
    assert exchanges[4].response().body == b""


def test_recalled_requests_are_dropped_silently(asgi):
    worker = asgi(one_at_a_time, concurrency=1)
    first, second, third = (worker.request("POST", "/", stream=True) for _ in range(3))
    first.head()
    assert second.recall()
    second.body(b"for nobody")
    third.body(b"third", end=True)
    first.body(b"", end=True)
    assert third.response().body == b"third"
    assert not second.queue and second.phase == Phase.PASSED


async def blocking(scope, receive, send):
    import time

    if scope["path"] == "/slow":
        time.sleep(0.25)
    await respond(send, scope["path"].encode())


def test_what_waits_behind_a_blocked_loop_can_be_recalled(asgi):
    worker = asgi(blocking)
    with worker.one_write():
        slow, second, third = (worker.request("GET", path) for path in ("/slow", "/second", "/third"))
    slow.wait_phase(Phase.ENTERED)
    assert second.phase == third.phase == Phase.HANDED
    assert second.recall()
    assert third.response().body == b"/third"
    assert slow.response().body == b"/slow"
    assert not second.queue and second.phase == Phase.PASSED
    worker.drain()
    assert worker.wait_exit() == 0


def test_an_answer_does_not_wait_for_a_slow_successor(asgi):
    worker = asgi(blocking)
    for _ in range(2):
        # The first round shows the worker what its application is like.
        with worker.one_write():
            exchanges = [worker.request("GET", path) for path in ("/slow", "/quick", "/slow")]
        exchanges[0].response()
        exchanges[1].response()
        waiting = exchanges[2].phase
        exchanges[2].response()
    assert waiting in (Phase.HANDED, Phase.ENTERED), "the answer came after the slow one"


def test_cancelling_a_waiting_request(asgi):
    worker = asgi(one_at_a_time, concurrency=1)
    first, second, third, fourth = (worker.request("POST", "/", stream=True) for _ in range(4))
    first.head()
    assert second.recall()
    second.cancel()
    third.send(Kind.CANCEL)
    third.done()
    fourth.body(b"fourth", end=True)
    first.body(b"", end=True)
    assert fourth.response().body == b"fourth"
    assert not second.queue
    assert (second.phase, third.phase) == (Phase.RECALLED, Phase.HANDED)


def test_the_page_tells_since_when_and_where_a_request_runs(asgi):
    import time

    worker = asgi(one_at_a_time)
    before = time.monotonic_ns()
    exchange = worker.request("POST", "/", stream=True)
    exchange.head()
    stream, phase, entered_at, thread = worker.page.read(exchange.cell)
    assert (stream, phase) == (exchange.stream, Phase.ENTERED) and thread > 0
    assert before < entered_at < time.monotonic_ns()
    exchange.cancel()
    exchange.done()
    assert worker.page.service(exchange.cell) == 0


def test_the_page_tells_how_long_the_answer_took(asgi):
    async def app(scope, receive, send):
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
            return
        await asyncio.sleep(0.02)
        await respond(send, b"ok")
        await asyncio.sleep(0.2)

    worker = asgi(app)
    exchange = worker.request()
    exchange.response()
    service = worker.page.service(exchange.cell)
    assert 15_000_000 < service < 190_000_000
    exchange.done()
    assert worker.page.service(exchange.cell) == service, "work in the background does not count"
    websocket = worker.websocket()
    while websocket.next_frame().kind != Kind.DONE:
        pass
    assert worker.page.service(websocket.cell) == 0


def test_slots_never_exceed_the_page(asgi):
    assert asgi(one_at_a_time, cells=3, concurrency=100).ready == ("asgi", 3)


def test_a_burst_larger_than_the_slots(asgi):
    async def app(scope, receive, send):
        if scope["path"].endswith("3"):
            await asyncio.sleep(0.001)
        await respond(send, scope["path"].encode())

    worker = asgi(app, concurrency=4)
    exchanges = [worker.request("GET", f"/{number}") for number in range(200)]
    for number, exchange in enumerate(exchanges):
        assert exchange.response().body == b"/%d" % number
        exchange.done()


# --- Ends -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by_signal", [False, True])
def test_drain_lets_everything_handed_over_finish(asgi, by_signal):
    worker = asgi(one_at_a_time, concurrency=1)
    first, second = (worker.request("POST", "/", stream=True) for _ in range(2))
    first.head()
    worker.signal(signal.SIGTERM) if by_signal else worker.drain()
    assert first.quiet()
    first.body(b"first", end=True)
    second.body(b"second", end=True)
    first.head_sent = True
    assert first.response().body == b"first"
    first.done()
    assert second.response().body == b"second"
    second.done()
    assert worker.wait_exit() == 0
    assert worker.log() == ""


def test_drain_with_only_recalled_requests_left(asgi):
    worker = asgi(one_at_a_time, concurrency=1)
    first, second = (worker.request("POST", "/", stream=True) for _ in range(2))
    first.head()
    assert second.recall()
    worker.drain()
    first.body(b"", end=True)
    assert worker.wait_exit() == 0


def test_drain_waits_for_background_work_and_cancels_leftovers(asgi):
    async def leftover():
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            print("leftover cancelled")
            raise

    async def generator():
        try:
            yield 1
            yield 2
        finally:
            print("generator closed")

    kept = []

    async def app(scope, receive, send):
        kept.append(asyncio.ensure_future(leftover()))
        kept.append(generator())
        await kept[1].__anext__()
        await respond(send, b"ok")
        await asyncio.sleep(0.1)
        print("background done")

    worker = asgi(app)
    exchange = worker.request()
    assert exchange.response().body == b"ok"
    worker.drain()
    assert worker.wait_exit() == 0
    assert exchange.expect(Kind.DONE)
    assert worker.log() == "background done\nleftover cancelled\ngenerator closed\n"


def test_drain_flushes_what_the_client_still_waits_for(asgi):
    body = bytes(3_000_000)
    kept = []

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        kept.append(asyncio.ensure_future(send({"type": "http.response.body", "body": body})))

    worker = asgi(app)
    exchange = worker.request()
    worker.drain()
    assert exchange.response().body == body
    exchange.done()
    assert worker.wait_exit() == 0


def test_drain_or_sigterm_during_startup(asgi):
    async def app(scope, receive, send):
        await receive()
        print("starting", flush=True)
        try:
            await asyncio.sleep(100)
        finally:
            print("cancelled")

    for by_signal in (True, False):
        worker = asgi(app, lifespan="on", wait_ready=False)
        worker.wait_log("starting")
        worker.signal(signal.SIGTERM) if by_signal else worker.drain()
        assert worker.wait_exit() == 0
        assert worker.log() == "starting\ncancelled\n"


def test_sigint_is_ignored(asgi):
    worker = asgi(one_at_a_time)
    worker.signal(signal.SIGINT)
    exchange = worker.request("POST", "/", stream=True)
    exchange.body(b"alive", end=True)
    assert exchange.response().body == b"alive"


def test_the_end_of_the_link_ends_the_worker(asgi):
    worker = asgi(one_at_a_time)
    worker.request("POST", "/", stream=True).head()
    worker.socket.close()
    assert worker.wait_exit() == EXIT_LINK


@pytest.mark.parametrize("nonsense", [
    struct.pack("<IIBBH", 1 << 21, 1, Kind.REQUEST, 0, 0),
    struct.pack("<IIBBH", 0, 1, 99, 0, 0),
    struct.pack("<IIBBH", 3, 1, Kind.REQUEST, 0, 0) + b"abc",
    struct.pack("<IIBBH", 0, 0, Kind.HELLO, 0, 0),
    struct.pack("<IIBBH", 0, 1, Kind.REQUEST, 2, 0),
])
def test_nonsense_ends_the_worker(asgi, nonsense):
    worker = asgi(one_at_a_time)
    worker.send_raw(nonsense)
    assert worker.wait_exit() == EXIT_LINK
    assert "the link to the front failed" in worker.log()
    with pytest.raises(LinkClosed):
        worker.link_frame()


def test_frames_for_unknown_streams_are_ignored(asgi):
    worker = asgi(one_at_a_time)
    for kind in (Kind.BODY, Kind.CANCEL, Kind.WINDOW, Kind.MESSAGE, Kind.CLOSE):
        worker.send_frame(1000, kind, bytes(4))
    exchange = worker.request("POST", "/", stream=True)
    exchange.body(b"alive", end=True)
    assert exchange.response().body == b"alive"


def test_a_front_that_does_not_read_holds_up_nothing_but_itself(asgi):
    async def app(scope, receive, send):
        await respond(send, bytes(900_000))

    worker = asgi(app, concurrency=32)
    exchanges = [worker.request() for _ in range(32)]
    # Nothing was read until here, and far more was sent than the socket holds.
    for exchange in exchanges:
        assert len(exchange.response().body) == 900_000
        exchange.done()
