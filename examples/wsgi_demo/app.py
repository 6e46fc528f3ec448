"""A plain WSGI application: no framework, standard library only."""

import hashlib
import json
import os
import platform
import threading
import time
from http import HTTPStatus
from pathlib import Path
from urllib.parse import parse_qs

PAGE = (Path(__file__).parent / "page.html").read_bytes()
BLOCK = bytes(range(256)) * 256
MEGABYTE = 1 << 20


def whole(body, kind, status=HTTPStatus.OK):
    headers = [("Content-Type", kind), ("Content-Length", str(len(body))), ("Cache-Control", "no-store")]
    return status, headers, [body]


def as_json(value):
    return whole(json.dumps(value).encode(), "application/json")


def page(environ):
    return whole(PAGE, "text/html; charset=utf-8")


def facts(environ):
    """What the application knows about this request."""
    return as_json(
        {
            "interface": "WSGI",
            "worker": os.getpid(),
            "thread": threading.current_thread().name,
            "protocol": environ["SERVER_PROTOCOL"],
            "scheme": environ["wsgi.url_scheme"],
            "client": f"{environ['REMOTE_ADDR']}:{environ.get('REMOTE_PORT', '')}".rstrip(":"),
            "python": platform.python_version(),
        }
    )


def slow(environ):
    """Holds its thread for three seconds, and nobody else."""
    time.sleep(3)
    return as_json({"worker": os.getpid()})


def upload(environ):
    """Reads the body block by block, whatever its size."""
    checksum, length, started = hashlib.sha256(), 0, time.perf_counter()
    while block := environ["wsgi.input"].read(MEGABYTE):
        checksum.update(block)
        length += len(block)
    milliseconds = round((time.perf_counter() - started) * 1000)
    return as_json(
        {"bytes": length, "sha256": checksum.hexdigest(), "milliseconds": milliseconds, "worker": os.getpid()}
    )


def download(environ):
    """A stream of up to 100 MB, made while it is sent."""
    query = parse_qs(environ["QUERY_STRING"])
    length = min(int(query.get("megabytes", ["20"])[0]), 100) * MEGABYTE
    headers = [
        ("Content-Type", "application/octet-stream"),
        ("Content-Length", str(length)),
        ("Content-Disposition", 'attachment; filename="monoceros.bin"'),
    ]
    return HTTPStatus.OK, headers, (BLOCK for _ in range(length // len(BLOCK)))


def clock(environ):
    """Ten server-sent events. A WSGI stream holds a thread, so it ends by itself; the browser comes again."""

    def events():
        for _ in range(10):
            event = json.dumps({"time": time.strftime("%H:%M:%S"), "worker": os.getpid()})
            yield f"data: {event}\n\n".encode()
            time.sleep(1)

    return HTTPStatus.OK, [("Content-Type", "text/event-stream"), ("Cache-Control", "no-store")], events()


ROUTES = {
    ("GET", "/"): page,
    ("GET", "/api/facts"): facts,
    ("GET", "/api/slow"): slow,
    ("POST", "/api/upload"): upload,
    ("GET", "/api/download"): download,
    ("GET", "/api/clock"): clock,
}


def app(environ, start_response):
    """The application."""
    # An answer to HEAD is the one to GET, of which the server sends the head alone.
    method = "GET" if environ["REQUEST_METHOD"] == "HEAD" else environ["REQUEST_METHOD"]
    route = ROUTES.get((method, environ["PATH_INFO"]))
    if route is None:
        status, headers, body = whole(b"There is nothing here.\n", "text/plain", HTTPStatus.NOT_FOUND)
    else:
        status, headers, body = route(environ)
    start_response(f"{status.value} {status.phrase}", headers)
    return body
