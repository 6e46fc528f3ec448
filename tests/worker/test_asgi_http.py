"""HTTP requests of ASGI applications: scope, receive, send, order, endings."""

import asyncio
import json
import os

import pytest

from front import BODY_INLINE_MAX, REQUEST_WINDOW, RESPONSE_WINDOW, Aborted, Kind, Phase


async def respond(send, body=b"", status=200, headers=()):
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})
    await send({"type": "http.response.body", "body": body})


async def read_body(receive):
    body = b""
    while True:
        event = await receive()
        assert event["type"] == "http.request", event
        body += event["body"]
        if not event["more_body"]:
            return body


async def echo(scope, receive, send):
    await respond(send, await read_body(receive))


# --- Scope ------------------------------------------------------------------------------------------------------------


async def describe(scope, receive, send):
    """Answers with the scope as JSON; bytes become latin-1 text."""

    def plain(value):
        if isinstance(value, bytes):
            return {"bytes": value.decode("latin-1")}
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [plain(item) for item in value]
        return value

    await respond(send, json.dumps(plain(scope)).encode())


def test_scope(asgi):
    worker = asgi(describe, root_path="/shop")
    scope = worker.fetch("PATCH", "/shop/caf%C3%A9/a%2Fb?x=1&y=%20", [("Host", "example.org"), ("x-a", "\xff"),
                         ("X-A", "2")], client=("::1", 5000), server=("10.0.0.1", 443), https=True, version=20).json()
    assert scope == {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "2",
        "method": "PATCH",
        "scheme": "https",
        "path": "/shop/café/a/b",
        "raw_path": {"bytes": "/shop/caf%C3%A9/a%2Fb"},
        "query_string": {"bytes": "x=1&y=%20"},
        "root_path": "/shop",
        "headers": [[{"bytes": "host"}, {"bytes": "example.org"}], [{"bytes": "x-a"}, {"bytes": "\xff"}],
                    [{"bytes": "x-a"}, {"bytes": "2"}]],
        "client": ["::1", 5000],
        "server": ["10.0.0.1", 443],
        "state": {},
        "extensions": {"http.response.pathsend": {}, "http.response.early_hint": {}, "http.response.trailers": {}},
    }


@pytest.mark.parametrize("raw, path", [
    ("/", "/"), ("/%41", "/A"), ("/%zz%4", "/%zz%4"), ("/%ff", "/\ufffd"), ("/a%00b", "/a\0b"), ("/%2525", "/%25"),
    ("/caf\xc3\xa9", "/café"),
])
def test_path_decoding(asgi, raw, path):
    assert asgi(describe).get(raw.encode("latin-1")).json()["path"] == path


def test_scope_of_unix_sockets_tls_and_versions(asgi):
    worker = asgi(describe)
    scope = worker.get("/", client=None, server=("/run/m.sock", 0), version=10, tls=(0x0304, 0x1301), https=True).json()
    assert scope["client"] is None
    assert scope["server"] == ["/run/m.sock", None]
    assert scope["http_version"] == "1.0"
    assert scope["extensions"]["tls"] == {
        "server_cert": None, "client_cert_chain": [], "client_cert_name": None, "client_cert_error": None,
        "tls_version": 0x0304, "cipher_suite": 0x1301,
    }
    # The next listener is not confused with the last one.
    assert worker.get("/", server=("127.0.0.1", 0)).json()["server"] == ["127.0.0.1", 0]


def test_scopes_share_nothing(asgi):
    async def spoil(scope, receive, send):
        seen = [len(scope["state"]), len(scope["extensions"]), len(scope["asgi"])]
        for name in ("state", "extensions", "asgi"):
            scope[name]["spoiled"] = True
        await respond(send, json.dumps(seen).encode())

    worker = asgi(spoil)
    assert worker.get().json() == worker.get().json() == [0, 3, 2]


# --- Request body -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 70_000, BODY_INLINE_MAX])
def test_inline_body(asgi, size):
    body = os.urandom(size)
    assert asgi(echo).fetch("POST", body=body).body == body


@pytest.mark.parametrize("size", [0, 1, 256 << 10, (256 << 10) + 1, 3_000_000])
def test_file_body(asgi, size):
    body = os.urandom(size)
    assert asgi(echo).fetch("POST", file_body=body).body == body


def test_file_body_comes_in_pieces(asgi):
    async def app(scope, receive, send):
        sizes = []
        while True:
            event = await receive()
            sizes.append(len(event["body"]))
            if not event["more_body"]:
                break
        await respond(send, json.dumps(sizes).encode())

    assert asgi(app).fetch("POST", file_body=bytes(600_000)).json() == [262144, 262144, 75712]


def test_streamed_body_gives_credit_as_it_is_taken(asgi):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            event = await receive()
            await send({"type": "http.response.body", "body": b"%d." % len(event["body"]), "more_body": True})
            if not event["more_body"]:
                break
        await send({"type": "http.response.body", "body": b"end"})

    exchange = asgi(app).request("POST", stream=True)
    for size in (10, 60_000):
        exchange.body(bytes(size))
        frames = [exchange.next_frame(), exchange.next_frame()]
        assert [frame.amount() for frame in frames if frame.kind == Kind.CONSUMED] == [size]
    exchange.body(b"", end=True)
    rest = b"".join(exchange.next_frame().payload for _ in range(2))
    assert rest.endswith(b"0.end")
    exchange.done()


def test_untaken_streamed_body_gets_no_credit(asgi):
    async def app(scope, receive, send):
        await asyncio.sleep(0.05)
        await respond(send, b"not read")

    exchange = asgi(app).request("POST", stream=True)
    for _ in range(4):
        exchange.body(bytes(REQUEST_WINDOW // 4))
    response = exchange.response()
    assert response.frames == [Kind.HEAD]
    exchange.done()
    # The rest arrives after the end and hurts nobody.
    exchange.body(b"late", end=True)
    assert exchange.worker.get().body == b"not read"


# --- Receive variants -------------------------------------------------------------------------------------------------


def test_receive_in_a_task_and_with_a_timeout_loses_nothing(asgi):
    async def app(scope, receive, send):
        first = await asyncio.create_task(receive())
        timeouts = 0
        task = asyncio.ensure_future(receive())
        done, _ = await asyncio.wait({task}, timeout=0.01)
        assert not done
        task.cancel()
        while True:
            try:
                second = await asyncio.wait_for(receive(), 0.01)
                break
            except TimeoutError:
                if timeouts == 0:
                    await send({"type": "http.response.start", "status": 200, "headers": []})
                    await send({"type": "http.response.body", "body": b"go", "more_body": True})
                timeouts += 1
        await send({"type": "http.response.body", "body": b"|".join([b"", first["body"], second["body"]])})

    exchange = asgi(app).request("POST", stream=True)
    exchange.body(b"first")
    exchange.expect(Kind.CONSUMED)
    assert exchange.head()[2] == b"go"
    exchange.body(b"second", end=True)
    exchange.expect(Kind.CONSUMED)
    assert exchange.next_frame().payload == b"|first|second"


def test_a_receive_cancelled_after_it_was_woken_loses_nothing(asgi):
    async def app(scope, receive, send):
        task = asyncio.ensure_future(receive())
        await asyncio.sleep(0)
        # The body arrives while this runs, in one turn of the loop with the cancellation.
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"go", "more_body": True})
        while not task._fut_waiter.done():
            await asyncio.sleep(0)
        task.cancel()
        try:
            event = await task
        except asyncio.CancelledError:
            event = await receive()
        await send({"type": "http.response.body", "body": event["body"]})

    exchange = asgi(app).request("POST", stream=True)
    assert exchange.head()[2] == b"go"
    exchange.body(b"kept", end=True)
    frames = {frame.kind: frame for frame in (exchange.next_frame(), exchange.next_frame())}
    assert frames[Kind.DATA].payload == b"kept"


def test_two_receives_at_once(asgi):
    async def app(scope, receive, send):
        tasks = [asyncio.ensure_future(receive()) for _ in range(2)]
        await asyncio.sleep(0)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"go", "more_body": True})
        events = await asyncio.gather(*tasks)
        await send({"type": "http.response.body", "body": b"".join(sorted(event["body"] for event in events))})

    exchange = asgi(app).request("POST", stream=True)
    assert exchange.head()[2] == b"go"
    exchange.body(b"1")
    exchange.body(b"2", end=True)
    assert b"12" in [exchange.next_frame().payload for _ in range(3)]


def test_anyio_task_group(asgi):
    import anyio

    async def app(scope, receive, send):
        async def watch(scope):
            while (await receive())["type"] != "http.disconnect":
                pass
            scope.cancel()

        async with anyio.create_task_group() as group:
            group.start_soon(watch, group.cancel_scope)
            group.start_soon(receive)
            await send({"type": "http.response.start", "status": 200, "headers": []})
            with anyio.move_on_after(0.01):
                await anyio.sleep(5)
            group.start_soon(send, {"type": "http.response.body", "body": b"done"})

    worker = asgi(app)
    assert worker.get().body == b"done"
    assert worker.log() == ""


def test_a_receive_cannot_be_awaited_twice(asgi):
    async def app(scope, receive, send):
        once = receive()
        await once
        try:
            await once
        except RuntimeError as error:
            await respond(send, str(error).encode())

    assert b"cannot reuse" in asgi(app).get().body


def test_disconnect_comes_after_the_response(asgi):
    async def app(scope, receive, send):
        await receive()
        waiting = asyncio.ensure_future(receive())
        await asyncio.sleep(0)
        await respond(send, b"ok")
        print("first", (await waiting)["type"], "second", (await receive())["type"])

    worker = asgi(app)
    assert worker.get().body == b"ok"
    worker.wait_log("first http.disconnect second http.disconnect")


# --- Response ---------------------------------------------------------------------------------------------------------


def test_head_and_small_body_are_one_frame(asgi):
    async def app(scope, receive, send):
        await respond(send, b"hello", 201, [(b"X-Upper", b"1"), (b"x-list", b"2"), [b"set-cookie", b"a"],
                                            (b"set-cookie", b"b")])

    exchange = asgi(app).request()
    status, headers, body, end = exchange.head()
    assert (status, body, end) == (201, b"hello", True)
    assert headers == [(b"x-upper", b"1"), (b"x-list", b"2"), (b"set-cookie", b"a"), (b"set-cookie", b"b")]
    exchange.done()
    assert exchange.phase == Phase.FINISHED


def test_the_head_waits_for_the_body(asgi):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await receive()
        event = await receive()
        assert event["type"] == "http.disconnect", event

    exchange = asgi(app).request()
    assert exchange.quiet()
    exchange.cancel()
    exchange.done()


def test_events_leave_before_the_next_is_made(asgi):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        for _ in range(3):
            event = await receive()
            await send({"type": "http.response.body", "body": b"data: " + event["body"], "more_body": True})
        await send({"type": "http.response.body"})

    exchange = asgi(app).request("POST", stream=True)
    for number in (b"1", b"2", b"3"):
        exchange.body(number)
        exchange.expect(Kind.CONSUMED)
        frame = exchange.next_frame()
        assert frame.payload.endswith(b"data: " + number) and not frame.is_end
    frame = exchange.expect(Kind.DATA)
    assert frame.is_end and frame.payload == b""


@pytest.mark.parametrize("size", [64 << 10, (64 << 10) + 1, RESPONSE_WINDOW, RESPONSE_WINDOW + 1, 5_000_000])
def test_large_bodies(asgi, size):
    body = os.urandom(size)

    async def app(scope, receive, send):
        await respond(send, body, headers=[(b"content-length", b"%d" % size)])

    assert asgi(app).get().body == body


def test_a_response_stops_at_its_window(asgi):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for number in range(40):
            await send({"type": "http.response.body", "body": bytes([number]) * 50_000, "more_body": True})
            print("sent", number)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    exchange = asgi(app).request()
    taken = len(exchange.head()[2])
    while taken < RESPONSE_WINDOW:
        taken += len(exchange.next_frame().payload)
    assert taken == RESPONSE_WINDOW
    assert exchange.quiet()
    assert "sent 19" in exchange.worker.log() and "sent 21" not in exchange.worker.log()
    # Other streams are not held up.
    other = exchange.worker.request()
    assert other.head()[0] == 200
    exchange.window(10)
    assert len(exchange.next_frame().payload) == 10
    exchange.window(3_000_000)
    exchange.head_sent = True
    assert len(exchange.response(grant=False).body) + taken + 10 == 2_000_000
    exchange.done()
    other.head_sent = True
    other.window(3_000_000)
    other.response()
    other.done()


def test_a_blocked_send_raises_when_the_client_goes(asgi):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            await send({"type": "http.response.body", "body": bytes(2_000_000), "more_body": True})
        except OSError as error:
            print("raised", type(error).__name__)
        print("then", (await receive())["type"])
        await send({"type": "http.response.body", "body": b"x"})

    exchange = asgi(app).request()
    exchange.head()
    exchange.cancel()
    while exchange.next_frame().kind == Kind.DATA:
        pass
    assert exchange.phase == Phase.FINISHED
    log = exchange.worker.wait_log("then")
    assert log == "raised ClientDisconnected\nthen http.disconnect\n", "an uncaught ClientDisconnected is no news"


def test_an_abandoned_large_send_is_still_completed(asgi):
    body = os.urandom(3_000_000)
    kept = []

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        kept.append(asyncio.ensure_future(send({"type": "http.response.body", "body": body})))

    exchange = asgi(app).request()
    assert exchange.response().body == body
    exchange.done()


def test_bytes_like_bodies(asgi):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": bytearray(b"ab"), "more_body": True})
        await send({"type": "http.response.body", "body": memoryview(b"cd")})

    assert asgi(app).get().body == b"abcd"


@pytest.mark.parametrize("method, status", [("HEAD", 200), ("GET", 204), ("GET", 304)])
def test_responses_without_a_body(asgi, method, status):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"10")]})
        await send({"type": "http.response.body", "body": b"12345", "more_body": True})
        await send({"type": "http.response.body", "body": b"67890", "more_body": False})

    response = asgi(app).fetch(method)
    assert (response.status, response.body, response.frames) == (status, b"", [Kind.HEAD])
    assert response["content-length"] == b"10"


def test_early_hints(asgi):
    async def app(scope, receive, send):
        await send({"type": "http.response.early_hint", "links": [b"</a.css>; rel=preload", b"</b.js>; rel=preload"]})
        await respond(send, b"ok")

    response = asgi(app).get()
    assert response.hints == [(103, [(b"link", b"</a.css>; rel=preload"), (b"link", b"</b.js>; rel=preload")])]
    assert response.body == b"ok"


@pytest.mark.parametrize("size", [0, 5, 3_000_000])
def test_pathsend(asgi, tmp_path, size):
    content = os.urandom(size)
    (tmp_path / "file").write_bytes(content)

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % size)]})
        await send({"type": "http.response.pathsend", "path": str(tmp_path / "file")})

    response = asgi(app).get()
    assert response.body == content
    assert [(part.offset, part.length) for part in response.files] == ([(0, size)] if size else [])
    assert asgi(app).fetch("HEAD").frames == [Kind.HEAD]


def test_pathsend_of_what_is_no_file(asgi, tmp_path):
    os.mkfifo(tmp_path / "fifo")

    async def app(scope, receive, send):
        errors = []
        await send({"type": "http.response.start", "status": 500, "headers": []})
        for name in ("missing", "fifo", "."):
            try:
                await send({"type": "http.response.pathsend", "path": str(tmp_path / name)})
            except Exception as error:
                errors.append(type(error).__name__)
        await send({"type": "http.response.body", "body": " ".join(errors).encode()})

    assert asgi(app).get().text == "FileNotFoundError ValueError ValueError"


def test_trailers(asgi):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"trailer", b"x-a")], "trailers": True})
        await send({"type": "http.response.body", "body": b"body"})
        await send({"type": "http.response.trailers", "headers": [(b"X-A", b"1")], "more_trailers": True})
        await send({"type": "http.response.trailers", "headers": [(b"x-b", b"2")]})

    worker = asgi(app)
    response = worker.get()
    assert (response.body, response.trailers) == (b"body", [(b"x-a", b"1"), (b"x-b", b"2")])
    assert worker.fetch("HEAD").frames == [Kind.HEAD]


def test_hop_by_hop_fields_are_dropped(asgi):
    async def app(scope, receive, send):
        dropped = [b"Connection", b"keep-alive", b"proxy-connection", b"Transfer-Encoding", b"upgrade", b":status"]
        await respond(send, b"", headers=[(name, b"x") for name in dropped] + [(b"x-kept", b"\xffyes")])

    assert asgi(app).get().headers == [(b"x-kept", b"\xffyes")]


# --- Misuse -----------------------------------------------------------------------------------------------------------

START = {"type": "http.response.start", "status": 200, "headers": []}
BODY = {"type": "http.response.body", "body": b"x"}
MORE = {"type": "http.response.body", "body": b"x", "more_body": True}


def start(*headers, **more):
    return {**START, "headers": list(headers), **more}


def test_values_are_trimmed_and_equal_lengths_are_one(asgi):
    async def app(scope, receive, send):
        fields = [(b"x", b" a b\t"), (b"content-length", b"2"), (b"Content-Length", b" 2"), (b"y", b" ")]
        await send({"type": "http.response.start", "status": 200, "headers": fields})
        await send({"type": "http.response.body", "body": b"ok"})

    assert asgi(app).get().headers == [(b"x", b"a b"), (b"content-length", b"2"), (b"y", b"")]


@pytest.mark.parametrize("messages, error", [
    ([BODY], "RuntimeError: the response must begin with a start"),
    ([START, START], "RuntimeError: the response was started already"),
    ([START, BODY, BODY], "RuntimeError: the response is complete"),
    ([START, BODY, START], "RuntimeError: the response is complete"),
    ([START, {"type": "http.response.early_hint", "links": []}], "RuntimeError: early hints must come before"),
    ([START, MORE, {"type": "http.response.pathsend", "path": "/etc/hosts"}], "RuntimeError: http.response.pathsend"),
    ([START, {"type": "http.response.trailers"}], "RuntimeError: trailers need"),
    ([start(trailers=True), {"type": "http.response.trailers"}], "RuntimeError: trailers must follow"),
    ([start(trailers=True), BODY, BODY], "RuntimeError: the body has ended"),
    ([start((b"content-length", b"0")), BODY], "RuntimeError: the body is longer"),
    ([start((b"content-length", b"2")), BODY], "RuntimeError: the body is shorter"),
    ([start((b"content-length", b"-1"))], "ValueError: invalid Content-Length"),
    ([start((b"x", b"a\r\nb: c"))], "ValueError: the value of header x has a control character"),
    ([start((b"x", b"a\x01b"))], "ValueError: the value of header x has a control character"),
    ([start((b"x", b"a\x7f"))], "ValueError: the value of header x has a control character"),
    ([start((b"content-length", b"1"), (b"content-length", b"2"))], "ValueError: two different values of Content-Length"),
    ([start((b"x", b"a\0"))], "ValueError: the value of header x has a control character"),
    ([start((b"x y", b""))], "ValueError: invalid header name"),
    ([start((b"", b""))], "ValueError: invalid header name"),
    ([start(("x", b""))], "TypeError: a header name must be bytes"),
    ([start((b"x", 1))], "TypeError: a header value must be bytes"),
    ([start((b"x", bytes(200_000).replace(b"\0", b"x")))], "ValueError: a field of 200000 bytes"),
    ([start(*[(b"x", b"y" * 60_000)] * 3)], "ValueError: the header fields exceed"),
    ([start(*[(b"x", b"y")] * 1025)], "ValueError: the header fields exceed"),
    ([start(status=99)], "ValueError: \"status\" must be an int from 200"),
    ([start(status="200")], "ValueError: \"status\""),
    ([{"type": "http.response.start"}], "ValueError: the message has no \"status\""),
    ([START, {**BODY, "body": "text"}], "TypeError: \"body\" must be bytes"),
    ([{"type": "websocket.send", "text": ""}], "RuntimeError: unexpected message \"websocket.send\""),
    ([{}], "ValueError: the message passed to send() has no \"type\""),
    ([{"type": 1}], "TypeError: the \"type\""),
    ([[]], "TypeError: send() takes a dict"),
])
def test_misuse_raises_in_the_application(asgi, messages, error):
    async def app(scope, receive, send):
        if scope["path"] == "/fine":
            return await respond(send, b"fine")
        for message in messages[:-1]:
            await send(message)
        try:
            await send(messages[-1])
        except Exception as raised:
            print(f"{type(raised).__name__}: {raised}")

    worker = asgi(app)
    exchange = worker.request()
    frames = [exchange.next_frame()]
    while frames[-1].kind not in (Kind.DONE, Kind.ABORT):
        frames.append(exchange.next_frame())
    assert worker.wait_log("Error: ").startswith(error)
    assert frames[-1].kind == (Kind.DONE if frames[0].is_end else Kind.ABORT)
    assert worker.get("/fine").body == b"fine"


# --- Endings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("messages, head_sent", [([], False), ([START], False), ([START, MORE], True)])
@pytest.mark.parametrize("raises", [True, False])
def test_incomplete_responses_are_aborted(asgi, messages, head_sent, raises):
    async def app(scope, receive, send):
        for message in messages:
            await send(message)
        if raises:
            raise ValueError("broken here")

    worker = asgi(app)
    exchange = worker.request("PUT", "/some/path")
    with pytest.raises(Aborted) as aborted:
        exchange.response()
    assert (aborted.value.reason, aborted.value.head_sent) == ("raised" if raises else "incomplete", head_sent)
    exchange.wait_phase(Phase.FINISHED)
    log = worker.log()
    assert "PUT /some/path" in log
    assert ("ValueError: broken here" in log and 'raise ValueError("broken here")' in log) == raises
    assert exchange.quiet(0.05)


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()])
def test_no_exception_ends_the_worker(asgi, error):
    async def app(scope, receive, send):
        if scope["path"] == "/fine":
            return await respond(send, b"fine")
        raise error

    worker = asgi(app)
    assert worker.request().abort_reason() == "raised"
    assert worker.get("/fine").body == b"fine"


def test_applications_that_are_no_coroutine_functions(asgi):
    class Awaitable:
        def __init__(self, send):
            self.send = send

        def __await__(self):
            yield from asyncio.sleep(0.001).__await__()
            return (yield from respond(self.send, b"awaited").__await__())

    def app(scope, receive, send):
        if scope["path"] == "/raise":
            raise LookupError("at once")
        if scope["path"] == "/none":
            return None
        return Awaitable(send)

    worker = asgi(app)
    assert worker.get().body == b"awaited"
    assert worker.request("GET", "/raise").abort_reason() == "raised"
    assert worker.request("GET", "/none").abort_reason() == "raised"
    assert "LookupError: at once" in worker.log()


def test_background_work_after_the_response(asgi):
    async def app(scope, receive, send):
        if scope["path"] == "/next":
            return await respond(send, b"next")
        await respond(send, b"ok")
        await receive()
        while (await receive())["type"] != "http.disconnect":
            pass
        await asyncio.sleep(0.15)
        if scope["path"] == "/raise":
            raise ValueError("in the background")

    worker = asgi(app)
    for path in ("/", "/raise"):
        exchange = worker.request("GET", path)
        assert exchange.response().body == b"ok"
        assert exchange.phase == Phase.ENTERED
        assert exchange.quiet(0.05)
        assert worker.get("/next").body == b"next"
        exchange.done()
        assert exchange.phase == Phase.FINISHED
    assert "(its answer was 200): GET /raise" in worker.log()


def test_disconnect_of_a_waiting_application(asgi):
    async def app(scope, receive, send):
        assert (await receive())["type"] == "http.request"
        assert (await receive())["type"] == "http.disconnect"
        try:
            await send(START)
        except OSError as error:
            print("OSError:", error)
            raise RuntimeError("passed on") from error

    exchange = asgi(app).request()
    exchange.wait_phase(Phase.ENTERED)
    exchange.cancel()
    exchange.done()
    assert exchange.worker.wait_log("OSError") == "OSError: the client has disconnected\n"


def test_context_variables_do_not_leak(asgi):
    import contextvars

    variable = contextvars.ContextVar("variable", default="unset")

    async def app(scope, receive, send):
        seen = variable.get()
        variable.set(scope["path"])
        await asyncio.sleep(0)
        assert variable.get() == scope["path"]
        await respond(send, seen.encode())

    worker = asgi(app, concurrency=1)
    exchanges = [worker.request("GET", f"/{number}") for number in range(5)]
    assert [exchange.response().body for exchange in exchanges] == [b"unset"] * 5


def test_a_waiting_request_can_be_looked_at(asgi):
    async def app(scope, receive, send):
        if scope["path"] == "/look":
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            tasks = [task for task in tasks if task.get_name() != "monoceros"]
            seen = [f"{task.get_name()} {task.get_stack()[-1].f_code.co_name} {task!r}" for task in tasks]
            return await respond(send, "\n".join(seen).encode())
        await waiting_here(receive)

    async def waiting_here(receive):
        while (await receive())["type"] != "http.disconnect":
            pass

    exchange = asgi(app).request()
    exchange.wait_phase(Phase.ENTERED)
    seen = exchange.worker.get("/look").text
    assert seen.startswith(f"monoceros-request-{exchange.stream} app <Task pending"), seen
    exchange.cancel()
    exchange.done()


def test_many_requests_leak_nothing(asgi):
    async def app(scope, receive, send):
        if scope["path"] == "/count":
            import gc
            import sys

            # Pending calls and tasks of other requests are over by now.
            await asyncio.sleep(0)
            gc.collect()
            with open("/proc/self/statm") as statm:
                resident = int(statm.read().split()[1]) * 4096
            count = {"objects": len(gc.get_objects()), "blocks": sys.getallocatedblocks(), "resident": resident,
                     "descriptors": len(os.listdir("/proc/self/fd")), "tasks": len(asyncio.all_tasks())}
            return await respond(send, json.dumps(count).encode())
        await echo(scope, receive, send)

    worker = asgi(app, concurrency=8)

    def burst(rounds):
        for _ in range(rounds):
            exchanges = [worker.request("POST", f"/{number}", [("x-header", "value")], b"b" * 100,
                                        **({"file_body": b"file"} if number == 7 else {})) for number in range(50)]
            for exchange in exchanges:
                exchange.response()
                exchange.done()
                exchange.free()

    burst(40)
    before = worker.get("/count").json()
    burst(360)
    after = worker.get("/count").json()
    assert after["descriptors"] == before["descriptors"] and after["tasks"] == before["tasks"] == 2
    assert after["objects"] - before["objects"] < 50, (before, after)
    assert after["blocks"] - before["blocks"] < 500, (before, after)
    assert after["resident"] - before["resident"] < 2 << 20, (before, after)
