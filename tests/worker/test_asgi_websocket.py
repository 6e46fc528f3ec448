"""WebSockets of ASGI applications. Frames, pings and compression are the front's; the link carries messages."""

import asyncio
import json
import os

import pytest

from front import DATA_CHUNK_MAX, REQUEST_WINDOW, RESPONSE_WINDOW, Kind, Phase, decode_response_head


async def echo(scope, receive, send):
    """Echoes messages; "close CODE REASON" closes."""
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept"})
    while True:
        event = await receive()
        if event["type"] == "websocket.disconnect":
            print("disconnect", event["code"], repr(event["reason"]))
            return
        text = event.get("text") or ""
        if text.startswith("close"):
            _, code, reason = text.split(" ", 2)
            await send({"type": "websocket.close", "code": int(code), "reason": reason})
        else:
            await send({"type": "websocket.send", **{key: event[key] for key in ("text", "bytes") if key in event}})


def connect(worker, path="/", headers=(), **more):
    exchange = worker.websocket(path, headers, **more)
    exchange.accepted = decode_response_head(exchange.expect(Kind.ACCEPT).payload)
    return exchange


def finish(exchange):
    exchange.close(1000)
    exchange.done()


def test_scope(asgi):
    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept", "subprotocol": scope["subprotocols"][1],
                    "headers": [(b"X-Extra", b"1"), (b"sec-websocket-accept", b"no")]})
        fields = {key: scope[key] for key in ("type", "scheme", "path", "subprotocols", "extensions", "http_version")}
        await send({"type": "websocket.send", "text": json.dumps({**fields, "has_method": "method" in scope})})
        await send({"type": "websocket.close"})

    worker = asgi(app)
    exchange = connect(worker, "/chat", [("Sec-WebSocket-Protocol", "a, b"), ("sec-websocket-protocol", "c")], https=True)
    assert exchange.accepted[:2] == (101, [(b"sec-websocket-protocol", b"b"), (b"x-extra", b"1")])
    assert json.loads(exchange.incoming()) == {
        "type": "websocket", "scheme": "wss", "path": "/chat", "subprotocols": ["a", "b", "c"], "http_version": "1.1",
        "extensions": {"websocket.http.response": {}}, "has_method": False,
    }
    assert exchange.expect(Kind.CLOSE).close() == (1000, "")
    exchange.done()
    assert exchange.phase == Phase.FINISHED


@pytest.mark.parametrize("message", ["", b"", "text ünï", b"\0\xff", "x" * 100_000, os.urandom(150_000)],
                         ids=["no text", "no bytes", "text", "bytes", "long text", "long bytes"])
def test_echo(asgi, message):
    exchange = connect(asgi(echo))
    exchange.message(message)
    assert exchange.incoming() == message
    finish(exchange)


@pytest.mark.parametrize("fragment", [1, 7])
def test_fragments_are_joined(asgi, fragment):
    # Characters of several bytes are cut in the middle.
    exchange = connect(asgi(echo))
    exchange.message("grüße €", fragment=fragment)
    assert exchange.incoming() == "grüße €"
    finish(exchange)


def test_large_messages_are_cut_into_fragments(asgi):
    exchange = connect(asgi(echo))
    message = "ä" * DATA_CHUNK_MAX
    exchange.message(message)
    exchange.expect(Kind.CONSUMED)
    frames = [exchange.next_frame() for _ in range(2)]
    assert [(len(frame.payload), frame.is_end, frame.is_text) for frame in frames] == [
        (DATA_CHUNK_MAX, False, True), (DATA_CHUNK_MAX, True, True)]
    assert b"".join(frame.payload for frame in frames).decode() == message
    finish(exchange)


def test_credit_comes_when_the_application_takes_a_message(asgi):
    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": "ready"})
        for _ in range(2):
            if scope["path"] == "/slow":
                await asyncio.sleep(0.1)
            await receive()
        await receive()

    exchange = connect(asgi(app), "/slow")
    assert exchange.incoming() == "ready"
    exchange.message(bytes(REQUEST_WINDOW // 2))
    exchange.message(bytes(10))
    assert exchange.quiet(0.02)
    assert exchange.expect(Kind.CONSUMED).amount() == REQUEST_WINDOW // 2
    assert exchange.expect(Kind.CONSUMED).amount() == 10
    finish(exchange)


def test_a_message_longer_than_the_window(asgi):
    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        if scope["path"] == "/busy":
            await asyncio.sleep(0.1)
        for _ in range(2):
            event = await receive()
            await send({"type": "websocket.send", "text": str(len(event["bytes"]))})

    def send_within_credit(exchange, credit, size):
        """Sends a message as credit allows, like the front; returns the credit left."""
        left = size
        while left:
            while not credit:
                frame = exchange.next_frame()
                if frame.kind == Kind.CONSUMED:
                    credit += frame.amount()
                else:
                    exchange.answers_left -= 1
            piece = min(left, credit, DATA_CHUNK_MAX)
            left -= piece
            credit -= piece
            exchange.send(Kind.MESSAGE, bytes(piece), 0 if left else 1)
        return credit

    for path in ("/", "/busy"):
        exchange = connect(asgi(app), path)
        exchange.answers_left = 2
        credit = send_within_credit(exchange, REQUEST_WINDOW, 10)
        credit = send_within_credit(exchange, credit, 1_000_000)
        answers = [exchange.incoming() for _ in range(exchange.answers_left)]
        assert answers[-1] == "1000000"
        exchange.expect(Kind.CLOSE)
        exchange.done()


def test_a_client_cannot_fill_the_memory_of_a_busy_application(asgi):
    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        await asyncio.sleep(0.2)
        for _ in range(2):
            await receive()

    exchange = connect(asgi(app))
    exchange.message(b"first")
    for _ in range(3):
        exchange.send(Kind.MESSAGE, bytes(DATA_CHUNK_MAX))
    assert exchange.quiet(0.1), "no credit for a second message while the first was not taken"
    consumed = exchange.expect(Kind.CONSUMED).amount()
    assert consumed == 5 + 3 * DATA_CHUNK_MAX
    exchange.cancel()


def test_sending_stops_at_the_window(asgi):
    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        for number in range(30):
            await send({"type": "websocket.send", "bytes": bytes([number]) * 50_000})
        await send({"type": "websocket.close", "code": 4000})

    exchange = connect(asgi(app))
    taken = 0
    while taken < RESPONSE_WINDOW:
        taken += len(exchange.expect(Kind.MESSAGE).payload)
    assert exchange.quiet()
    exchange.window(2_000_000)
    while (frame := exchange.next_frame()).kind == Kind.MESSAGE:
        taken += len(frame.payload)
    assert taken == 1_500_000
    assert frame.close() == (4000, "")
    exchange.done()


def test_a_close_waits_for_the_messages_before_it(asgi):
    kept = []

    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        kept.append(asyncio.ensure_future(send({"type": "websocket.send", "bytes": bytes(1_500_000)})))

    exchange = connect(asgi(app))
    assert exchange.incoming() == bytes(1_500_000)
    assert exchange.expect(Kind.CLOSE).close() == (1000, "")
    exchange.done()


@pytest.mark.parametrize("code, reason", [(1000, "bye"), (1001, ""), (4321, "grüße"), (1005, "")])
def test_the_client_closes(asgi, code, reason):
    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        while (event := await receive())["type"] == "websocket.receive":
            print(event["text"])
        print(event["code"], repr(event["reason"]))

    exchange = connect(asgi(app))
    # Messages that came before the close are not lost.
    exchange.message("last")
    exchange.close(code, reason)
    while exchange.next_frame().kind != Kind.DONE:
        pass
    assert exchange.worker.log() == f"last\n{code} {reason!r}\n"


def test_the_client_vanishes(asgi):
    exchange = connect(asgi(echo))
    exchange.cancel()
    exchange.done()
    assert exchange.worker.wait_log("disconnect") == "disconnect 1006 ''\n"


def test_the_application_closes(asgi):
    exchange = connect(asgi(echo))
    exchange.message("close 4001 enough")
    exchange.expect(Kind.CONSUMED)
    assert exchange.expect(Kind.CLOSE).close() == (4001, "enough")
    exchange.done()
    assert exchange.worker.wait_log("disconnect") == "disconnect 4001 'enough'\n"


def test_returning_closes(asgi):
    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})

    exchange = connect(asgi(app))
    assert exchange.expect(Kind.CLOSE).close() == (1000, "")
    exchange.done()


def test_raising_closes_with_1011(asgi):
    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        raise ValueError("broken")

    exchange = connect(asgi(app), "/broken")
    assert exchange.expect(Kind.CLOSE).close() == (1011, "")
    exchange.done()
    assert "GET /broken" in exchange.worker.log() and "ValueError: broken" in exchange.worker.log()


@pytest.mark.parametrize("raises", [True, False])
def test_ending_before_accept_aborts(asgi, raises):
    async def app(scope, receive, send):
        if raises:
            raise ValueError("broken")

    exchange = asgi(app).websocket()
    assert exchange.expect(Kind.ABORT).abort() == ("raised" if raises else "incomplete")


def test_close_before_accept_is_403(asgi):
    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.close", "code": 1008})
        print((await receive())["type"])

    exchange = asgi(app).websocket()
    response = exchange.response()
    assert (response.status, response.body) == (403, b"")
    exchange.done()
    exchange.worker.wait_log("websocket.disconnect")


@pytest.mark.parametrize("size", [5, 3_000_000])
def test_denial_response(asgi, size):
    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.http.response.start", "status": 401, "headers": [(b"WWW-Authenticate", b"x")]})
        await send({"type": "websocket.http.response.body", "body": b"n" * (size - 1), "more_body": True})
        await send({"type": "websocket.http.response.body", "body": b"o"})

    exchange = asgi(app).websocket()
    response = exchange.response()
    assert (response.status, response["www-authenticate"]) == (401, b"x")
    assert response.body == b"n" * (size - 1) + b"o"
    exchange.done()


def test_sending_after_disconnect_raises_oserror(asgi):
    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        assert (await receive())["type"] == "websocket.disconnect"
        try:
            await send({"type": "websocket.send", "text": "x"})
        except OSError as error:
            print(type(error).__name__)
        await send({"type": "websocket.send", "text": "x"})

    exchange = connect(asgi(app))
    exchange.close(1001)
    exchange.done()
    assert exchange.worker.log() == "ClientDisconnected\n"


ACCEPT = {"type": "websocket.accept"}
SEND = {"type": "websocket.send", "text": "x"}
CLOSE = {"type": "websocket.close"}
DENY = {"type": "websocket.http.response.start", "status": 401}


@pytest.mark.parametrize("messages, error", [
    ([SEND], "RuntimeError: websocket.send before websocket.accept"),
    ([ACCEPT, ACCEPT], "RuntimeError: websocket.accept must be the first"),
    ([ACCEPT, DENY], "RuntimeError: a denial response must come before"),
    ([ACCEPT, CLOSE, SEND], "RuntimeError: websocket.send after websocket.close"),
    ([ACCEPT, CLOSE, CLOSE], "RuntimeError: the WebSocket is closed already"),
    ([CLOSE, ACCEPT], "RuntimeError: websocket.accept must be the first"),
    ([DENY, ACCEPT], "RuntimeError: websocket.accept must be the first"),
    ([DENY, CLOSE], "RuntimeError: websocket.close after a denial"),
    ([{"type": "websocket.http.response.body"}], "RuntimeError: the response must begin"),
    ([ACCEPT, {"type": "websocket.send"}], "ValueError: websocket.send has neither"),
    ([ACCEPT, {"type": "websocket.send", "text": b"x"}], "TypeError: \"text\" must be a str"),
    ([ACCEPT, {"type": "websocket.send", "bytes": "x"}], "TypeError: \"bytes\" must be bytes"),
    ([ACCEPT, {**CLOSE, "code": 99}], "ValueError: \"code\" must be an int from 1000"),
    ([ACCEPT, {**CLOSE, "reason": "x" * 124}], "ValueError: \"reason\" must not exceed"),
    ([{**ACCEPT, "subprotocol": "a\r\nb"}], "ValueError: \"subprotocol\" must consist"),
    ([{**ACCEPT, "headers": [(b"a", b"\n")]}], "ValueError: the value of header a"),
    ([ACCEPT, {"type": "http.response.start"}], "RuntimeError: unexpected message"),
])
def test_misuse_raises_in_the_application(asgi, messages, error):
    async def app(scope, receive, send):
        for message in messages[:-1]:
            await send(message)
        try:
            await send(messages[-1])
        except Exception as raised:
            print(f"{type(raised).__name__}: {raised}")

    worker = asgi(app)
    exchange = worker.websocket()
    while exchange.next_frame().kind not in (Kind.DONE, Kind.ABORT):
        pass
    assert worker.wait_log("Error: ").startswith(error)


def test_bytes_or_text_given_as_none(asgi):
    async def app(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept", "subprotocol": None, "headers": None})
        await send({"type": "websocket.send", "bytes": None, "text": "t"})
        await send({"type": "websocket.send", "bytes": b"b", "text": None})
        await send({"type": "websocket.close", "code": None, "reason": None})

    exchange = connect(asgi(app))
    assert [exchange.incoming(), exchange.incoming()] == ["t", b"b"]
    assert exchange.expect(Kind.CLOSE).close() == (1000, "")


def test_drain_closes_open_websockets_with_1012(asgi):
    async def app(scope, receive, send):
        await receive()
        if scope["path"] == "/late":
            while not worker_drains.exists():
                await asyncio.sleep(0.005)
        await send({"type": "websocket.accept"})
        event = await receive()
        print(scope["path"], event["type"], event["code"])
        try:
            await send({"type": "websocket.send", "text": "x"})
        except OSError:
            print(scope["path"], "raised")

    import pathlib
    import tempfile

    worker_drains = pathlib.Path(tempfile.mkdtemp()) / "drains"
    worker = asgi(app)
    early, late = connect(worker, "/early"), worker.websocket("/late")
    late.wait_phase(Phase.ENTERED)
    worker.drain()
    assert early.expect(Kind.CLOSE).close() == (1012, "")
    early.done()
    worker_drains.touch()
    late.expect(Kind.ACCEPT)
    assert late.expect(Kind.CLOSE).close() == (1012, "")
    late.done()
    assert worker.wait_exit() == 0
    assert worker.log().split("\n")[:4] == ["/early websocket.disconnect 1012", "/early raised",
                                            "/late websocket.disconnect 1012", "/late raised"]
