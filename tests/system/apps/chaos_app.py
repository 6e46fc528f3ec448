"""An application that writes down what it does, so that a test can say what was executed, where, and how often."""

import hashlib
import os
import time
from urllib.parse import parse_qs

import chaos_version  # written by the test; broken now and then

JOURNAL = os.open(os.environ["CHAOS_JOURNAL"], os.O_WRONLY | os.O_APPEND)


def note(what: str, number: str) -> None:
    os.write(JOURNAL, f"{what} {number} {os.getpid()}\n".encode())


def work(method: str, query: str, body: bytes) -> bytes:
    fields = parse_qs(query)
    number, pause = fields["number"][0], int(fields["pause"][0])
    note("enter", number)
    # Memory that is really used: where there is none left the kernel ends this process.
    ballast = b"x" * 2_000_000
    time.sleep(pause / 1000)
    answer = f"{method} {number} {hashlib.sha256(body).hexdigest()} {chaos_version.VERSION}".encode()
    note("leave", number)
    del ballast
    return answer


def wsgi(environ, start_response):
    answer = work(environ["REQUEST_METHOD"], environ["QUERY_STRING"], environ["wsgi.input"].read())
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(answer)))])
    return [answer]


async def asgi(scope, receive, send):
    assert scope["type"] == "http", "no lifespan"
    body = b""
    while (message := await receive()).get("more_body"):
        body += message["body"]
    body += message["body"]
    answer = work(scope["method"], scope["query_string"].decode(), body)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", str(len(answer)).encode())]})
    await send({"type": "http.response.body", "body": answer})
