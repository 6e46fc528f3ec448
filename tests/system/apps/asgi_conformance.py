"""Checks what the server hands to an ASGI application, against the specification (HTTP & WebSocket 2.3 and later).

Answers with the list of what is wrong, as JSON: an empty list is conformance.
"""

import contextlib
import json
import sys

problems_of_lifespan = []


def is_text(value):
    return type(value) is str


def is_bytes(value):
    return type(value) is bytes


def is_address(value):
    return value is None or (
        isinstance(value, (tuple, list)) and len(value) == 2 and is_text(value[0]) and (value[1] is None or type(value[1]) is int)
    )


def is_header_list(value):
    return all(len(pair) == 2 and is_bytes(pair[0]) and is_bytes(pair[1]) and pair[0] == pair[0].lower() for pair in value)


COMMON = {
    "asgi": lambda value: is_text(value["version"]) and value["version"] == "3.0" and is_text(value["spec_version"]),
    "http_version": lambda value: value in ("1.0", "1.1", "2"),
    "scheme": is_text,
    "path": lambda value: is_text(value) and value.startswith("/"),
    "raw_path": lambda value: is_bytes(value) and b"?" not in value,
    "query_string": lambda value: is_bytes(value) and not value.startswith(b"?"),
    "root_path": is_text,
    "headers": is_header_list,
    "client": is_address,
    "server": is_address,
    "state": lambda value: type(value) is dict,
}
SPECIFIC = {
    "http": {"method": lambda value: is_text(value) and value == value.upper()},
    "websocket": {"subprotocols": lambda value: all(is_text(item) for item in value)},
}


def problems_of(scope):
    found = list(problems_of_lifespan)
    for key, is_right in {**COMMON, **SPECIFIC[scope["type"]]}.items():
        if key not in scope:
            found.append(f"{key} is missing")
        elif not is_right(scope[key]):
            found.append(f"{key} is {scope[key]!r}")
    schemes = ("http", "https") if scope["type"] == "http" else ("ws", "wss")
    if scope["scheme"] not in schemes:
        found.append(f"scheme is {scope['scheme']!r}")
    names = [name for name, _ in scope["headers"]]
    if names.count(b"host") != 1:
        found.append(f"{names.count(b'host')} host headers")
    if any(name.startswith(b":") for name in names):
        found.append("a pseudo-header among the headers")
    if scope.get("state", {}).get("shared") != ["from the lifespan"]:
        found.append("the state of the lifespan is missing")
    if "extensions" in scope and type(scope["extensions"]) is not dict:
        found.append("extensions is no dict")
    return found


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        message = await receive()
        if message != {"type": "lifespan.startup"}:
            problems_of_lifespan.append(f"first lifespan message is {message}")
        scope["state"]["shared"] = ["from the lifespan"]
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    found = problems_of(scope)
    if scope["type"] == "websocket":
        first = await receive()
        if first != {"type": "websocket.connect"}:
            found.append(f"first message is {first}")
        await send({"type": "websocket.accept"})
        message = await receive()
        if message["type"] != "websocket.receive" or not is_text(message.get("text")) or message.get("bytes") is not None:
            found.append(f"text message is {message}")
        message = await receive()
        if message["type"] != "websocket.receive" or not is_bytes(message.get("bytes")) or message.get("text") is not None:
            found.append(f"binary message is {message}")
        await send({"type": "websocket.send", "text": json.dumps(found)})
        message = await receive()
        if message["type"] != "websocket.disconnect" or type(message["code"]) is not int:
            print(f"wrong disconnect: {message}", file=sys.stderr, flush=True)
        return

    body = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            found.append(f"message while reading is {message}")
            break
        if not is_bytes(message.get("body", b"")):
            found.append(f"body is {type(message['body'])}")
        body += message.get("body", b"")
        if not message.get("more_body", False):
            break
    # What is stored in one request's state must not be seen by the next one (a shallow copy each).
    if "mine" in scope["state"]:
        found.append("the state of another request is visible")
    scope["state"]["mine"] = True
    expected = dict(scope["headers"]).get(b"x-expected-length")
    if expected and int(expected) != len(body):
        found.append(f"body of {len(body)} bytes instead of {expected.decode()}")

    answer = json.dumps({"problems": found, "scope": {key: repr(value) for key, value in scope.items()}}).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    # In three parts, one of them empty; `more_body` may be left out at the end.
    await send({"type": "http.response.body", "body": answer[:10], "more_body": True})
    await send({"type": "http.response.body", "more_body": True})
    await send({"type": "http.response.body", "body": answer[10:]})
    # After the answer, receive() tells about the client's departure.
    message = await receive()
    print(f"after the answer: {message['type']}", file=sys.stderr, flush=True)
    # And whatever is sent now is an error of the application, or the client has left (OSError, ASGI 2.4).
    with contextlib.suppress(OSError, RuntimeError):
        await send({"type": "http.response.body", "body": b"too late"})
    print("done", file=sys.stderr, flush=True)
