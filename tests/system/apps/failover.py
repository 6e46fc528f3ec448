"""A WSGI application that fails in one way per route: the first worker that is asked, the others answer."""

import json
import os
import signal
import time
from pathlib import Path
from urllib.parse import parse_qs


def is_first(directory):
    """Whether this is the first execution. Leaves a line for each."""
    descriptor = os.open(os.path.join(directory, "executions"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(descriptor, f"{os.getpid()}\n".encode())
    os.close(descriptor)
    try:
        os.close(os.open(os.path.join(directory, "first"), os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def fails(path, query, start_response):
    if path == "/raises":
        raise RuntimeError("raised on purpose")
    if path == "/dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if path in ("/dies", "/hangs"):
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            time.sleep(0.01)
    if path == "/status":
        start_response(f"{query['status']} Given", [("Content-Type", "text/plain")])
        return [b"a failure, " * 10_000, b"in pieces"]
    if path == "/header":
        start_response("200 OK", [("Content-Type", "text/plain"), ("X-Again", query.get("value", ""))])
        return [b"not from me"]
    raise AssertionError(path)


def breaks(directory):
    yield b"x" * 65536
    while not os.path.exists(os.path.join(directory, "release")):
        time.sleep(0.005)
    os.kill(os.getpid(), signal.SIGKILL)


def app(environ, start_response):
    path = environ["PATH_INFO"]
    query = {name: values[-1] for name, values in parse_qs(environ["QUERY_STRING"]).items()}
    directory = query.get("record")
    body = environ["wsgi.input"].read()
    if path == "/hold":
        with (Path(directory) / "entered").open("a") as file:
            file.write(f"{os.getpid()}\n")
        while not os.path.exists(os.path.join(directory, "release")):
            time.sleep(0.005)
    elif path not in ("/", "/file", "/breaks") and (is_first(directory) or "always" in query):
        return fails(path, query, start_response)
    if path == "/file":
        handle = open(__file__, "rb")  # noqa: SIM115 - whoever sends it closes it
        start_response("200 OK", [("Content-Length", str(os.path.getsize(__file__)))])
        return environ["wsgi.file_wrapper"](handle)
    if path == "/breaks":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return breaks(directory)
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({"pid": os.getpid(), "body": body.decode()}).encode()]


# A worker that starts while this file exists is not ready.
while os.path.exists(os.environ.get("HALT", "")):
    time.sleep(0.01)
