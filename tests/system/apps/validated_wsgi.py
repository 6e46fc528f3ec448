"""WSGI applications under `wsgiref.validate`: a server that breaks PEP 3333 fails an assertion inside the worker."""

import json
import sys
from wsgiref.validate import validator

TEXT = [("Content-Type", "text/plain")]


def plain(environ, start_response):
    start_response("200 OK", [*TEXT, ("Content-Length", "5")])
    return [b"plain"]


def generator(environ, start_response):
    start_response("200 OK", TEXT)
    yield from (b"one ", b"", b"two ", b"three")


def late_start(environ, start_response):
    """start_response is called only while the first part is made, as every generator function does it."""
    yield_nothing = iter(())

    def parts():
        start_response("201 Created", TEXT)
        yield b"late"
        yield from yield_nothing

    return parts()


def writes(environ, start_response):
    write = start_response("200 OK", TEXT)
    write(b"written ")
    write(b"before ")
    return [b"returned"]


def empty(environ, start_response):
    start_response("200 OK", [*TEXT, ("Content-Length", "0")])
    return []


def no_content(environ, start_response):
    start_response("204 No Content", [])
    return []


def not_modified(environ, start_response):
    start_response("304 Not Modified", [("ETag", '"1"')])
    return []


class Closing:
    """Counts its close() calls in the log."""

    def __init__(self, parts, fail_after=None):
        self.parts, self.fail_after, self.number = iter(parts), fail_after, 0

    def __iter__(self):
        return self

    def __next__(self):
        self.number += 1
        if self.fail_after is not None and self.number > self.fail_after:
            raise RuntimeError("iteration failed on purpose")
        return next(self.parts)

    def close(self):
        print("closed", file=sys.stderr, flush=True)


def closing(environ, start_response):
    start_response("200 OK", TEXT)
    return Closing([b"closing"])


def closing_after_failure(environ, start_response):
    start_response("200 OK", TEXT)
    return Closing([b"part"] * 3, fail_after=1)


def replaces_by_exc_info(environ, start_response):
    """Nothing was sent yet, so the error answer replaces the good one."""
    start_response("200 OK", [*TEXT, ("X-First", "yes")])
    try:
        raise ValueError("on purpose")
    except ValueError:
        start_response("500 Replaced", TEXT, sys.exc_info())
    return [b"replaced"]


def reads(environ, start_response):
    """All ways to read the body, in turn, on one stream."""
    stream = environ["wsgi.input"]
    found = [stream.read(3), stream.readline(), stream.readline(100), next(iter(stream)), *stream.readlines(), stream.read(10)]
    body = json.dumps([part.decode("latin-1") for part in found]).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


def iterates(environ, start_response):
    body = json.dumps([line.decode("latin-1") for line in environ["wsgi.input"]]).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


def facts(environ, start_response):
    visible = {key: value for key, value in environ.items() if isinstance(value, (str, bool, tuple))}
    body = json.dumps(visible).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


ROUTES = {
    "/plain": plain,
    "/generator": generator,
    "/late-start": late_start,
    "/writes": writes,
    "/empty": empty,
    "/no-content": no_content,
    "/not-modified": not_modified,
    "/closing": closing,
    "/closing-after-failure": closing_after_failure,
    "/replaces": replaces_by_exc_info,
    "/reads": reads,
    "/iterates": iterates,
}


def route(environ, start_response):
    return ROUTES.get(environ["PATH_INFO"], facts)(environ, start_response)


app = validator(route)
