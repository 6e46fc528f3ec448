"""The WSGI application of most system tests. Standard library only; every route does one observable thing."""

import hashlib
import json
import os
import signal
import sys
import threading
import time
from urllib.parse import parse_qs

BLOCK = bytes(range(256)) * 256  # 64 KiB


def record(directory, name, text):
    """Appends one line to a file; O_APPEND makes it atomic between workers."""
    descriptor = os.open(os.path.join(directory, name), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(descriptor, f"{text}\n".encode())
    os.close(descriptor)


def wait_for(path):
    """Blocks until a file exists: the test decides when the request ends. Gives up after a minute."""
    deadline = time.monotonic() + 60
    while not os.path.exists(path) and time.monotonic() < deadline:
        time.sleep(0.005)


def body_of(environ):
    return iter(lambda: environ["wsgi.input"].read(65536), b"")


def text(body, status="200 OK", headers=()):
    body = body.encode() if isinstance(body, str) else body
    return status, [("Content-Type", "text/plain"), ("Content-Length", str(len(body))), *headers], [body]


def as_json(value, status="200 OK"):
    body = json.dumps(value).encode()
    return status, [("Content-Type", "application/json"), ("Content-Length", str(len(body)))], [body]


def hello(environ, query):
    return text("hello")


def facts(environ, query):
    return as_json(
        {
            "environ": {key: value for key, value in environ.items() if isinstance(value, (str, bool, int, tuple))},
            "pid": os.getpid(),
            "thread": threading.get_ident(),
            "interpreter": sys.executable,
            "version": list(sys.version_info[:3]),
            "directory": os.getcwd(),
            "argv": sys.argv,
        }
    )


def variables(environ, query):
    return as_json({name: os.environ.get(name) for name in query["name"].split(",")})


def pid(environ, query):
    return text(str(os.getpid()))


def echo(environ, query):
    return text(b"".join(body_of(environ)))


def digest(environ, query):
    checksum, length = hashlib.sha256(), 0
    for block in body_of(environ):
        checksum.update(block)
        length += len(block)
    return as_json({"length": length, "sha256": checksum.hexdigest(), "pid": os.getpid()})


def download(environ, query):
    length = int(query["bytes"])

    def blocks():
        left = length
        while left > 0:
            yield BLOCK[: min(left, len(BLOCK))]
            left -= len(BLOCK)

    return "200 OK", [("Content-Type", "application/octet-stream"), ("Content-Length", str(length))], blocks()


def slow(environ, query):
    if "record" in query:
        record(query["record"], "entered", os.getpid())
    time.sleep(float(query["seconds"]))
    return text("slow")


def hold(environ, query):
    """Says that it was entered, then answers only when the test has made the file `release`."""
    record(query["record"], "entered", os.getpid())
    wait_for(os.path.join(query["record"], "release"))
    return text("held")


def steps(environ, query):
    """A stream whose next part comes only when the test asks for it: the parts cannot have been collected."""

    def parts():
        yield b"part 0\n"
        for number in range(1, int(query["count"])):
            wait_for(os.path.join(query["record"], f"release-{number}"))
            yield f"part {number}\n".encode()

    return "200 OK", [("Content-Type", "text/plain")], parts()


def count(environ, query):
    """Leaves a trace of every execution: how often a request really ran is what replay tests are about."""
    body = b"".join(body_of(environ))
    record(query["record"], query.get("name", "executions"), f"{os.getpid()} {environ['REQUEST_METHOD']}")
    return text(body or b"counted")


def die_once(environ, query):
    """The first execution kills its own worker; later ones answer."""
    record(query["record"], "executions", os.getpid())
    try:
        os.close(os.open(os.path.join(query["record"], "died"), os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return text("alive")
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)
    return text("unreachable")


def die_streaming(environ, query):
    def parts():
        yield b"x" * 65536
        # Only when the test has seen the head, so that the break really is in the middle.
        wait_for(os.path.join(query["record"], "release"))
        os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)

    return "200 OK", [("Content-Type", "text/plain"), *query_length(query)], parts()


def query_length(query):
    return [("Content-Length", query["length"])] if "length" in query else []


def raises(environ, query):
    raise RuntimeError("raised on purpose")


def raises_late(environ, query):
    def parts():
        yield b"x" * 65536
        wait_for(os.path.join(query["record"], "release"))
        raise RuntimeError("raised on purpose, late")

    return "200 OK", [("Content-Type", "text/plain")], parts()


def prints(environ, query):
    print(f"on stdout: {query['word']}", flush=True)
    print(f"on stderr: {query['word']}", file=sys.stderr, flush=True)
    print(f"on wsgi.errors: {query['word']}", file=environ["wsgi.errors"])
    environ["wsgi.errors"].flush()
    return text("printed")


def cookies(environ, query):
    return text("cookies", headers=[("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("X-Repeated", "1"), ("X-Repeated", "2")])


def no_content(environ, query):
    return "204 No Content", [], []


def file(environ, query):
    wrapper = environ["wsgi.file_wrapper"]
    handle = open(query["path"], "rb")  # noqa: SIM115 - whoever sends it closes it
    handle.seek(int(query.get("offset", 0)))
    length = os.fstat(handle.fileno()).st_size - int(query.get("offset", 0))
    return "200 OK", [("Content-Type", "application/octet-stream"), ("Content-Length", str(length))], wrapper(handle, 65536)


def early_hint(environ, query):
    environ["wsgi.early_hints"]([("Link", "</style.css>; rel=preload; as=style")])
    environ["wsgi.early_hints"]([("Link", "</script.js>; rel=preload; as=script")])
    return text("hinted")


ROUTES = {
    "/": hello,
    "/facts": facts,
    "/variables": variables,
    "/pid": pid,
    "/echo": echo,
    "/digest": digest,
    "/download": download,
    "/slow": slow,
    "/hold": hold,
    "/steps": steps,
    "/count": count,
    "/die-once": die_once,
    "/die-streaming": die_streaming,
    "/raises": raises,
    "/raises-late": raises_late,
    "/prints": prints,
    "/cookies": cookies,
    "/no-content": no_content,
    "/file": file,
    "/early-hint": early_hint,
}


def app(environ, start_response):
    query = {name: values[-1] for name, values in parse_qs(environ["QUERY_STRING"]).items()}
    route = ROUTES.get(environ["PATH_INFO"])
    if route is None:
        status, headers, body = text("no such route", "404 Not Found")
    else:
        status, headers, body = route(environ, query)
    start_response(status, headers)
    return body


print(f"imported by {os.getpid()}", file=sys.stderr, flush=True)
