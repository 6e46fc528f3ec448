"""The WSGI side of a worker: environ, start_response, bodies, and what happens when an application misbehaves."""

import json
import os
import socket
from wsgiref.validate import validator

import pytest

from front import DATA_CHUNK_MAX, RESPONSE_WINDOW, Aborted, Kind, Worker

BODY = b"first line\nsecond\n\nlast without newline"


def serve(app, **settings):
    return Worker(app, interface="wsgi", **settings)


def text_app(function):
    """An application that answers with what `function(environ)` returns."""

    def app(environ, start_response):
        body = function(environ)
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
        return [body]

    return app


def environ_of(method="GET", path="/", headers=(), body=b"", settings=None, **more):
    """The environ's strings and booleans for one request."""

    def app(environ):
        return {key: value for key, value in environ.items() if isinstance(value, (str, bool))}

    with serve(text_app(app), **(settings or {})) as worker:
        return worker.fetch(method, path, headers, body, **more).json()


# --- environ ----------------------------------------------------------------------------------------------------------


def test_environ_of_a_plain_request():
    environ = environ_of(path="/a%20b/c%2Fd?x=1&y=%20", headers=[("host", "example.org"), ("user-agent", "test")],
                         client=("192.0.2.7", 5555), server=("127.0.0.1", 8000))
    expected = {
        "REQUEST_METHOD": "GET", "SCRIPT_NAME": "", "PATH_INFO": "/a b/c/d", "QUERY_STRING": "x=1&y=%20",
        "RAW_URI": "/a%20b/c%2Fd?x=1&y=%20", "REQUEST_URI": "/a%20b/c%2Fd?x=1&y=%20", "REMOTE_ADDR": "192.0.2.7",
        "REMOTE_PORT": "5555", "SERVER_NAME": "127.0.0.1", "SERVER_PORT": "8000", "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_SOFTWARE": "monoceros/test", "HTTP_HOST": "example.org", "HTTP_USER_AGENT": "test",
        "wsgi.url_scheme": "http", "wsgi.multithread": False, "wsgi.multiprocess": False, "wsgi.run_once": False,
        "wsgi.input_terminated": True,
    }
    assert environ == expected


@pytest.mark.parametrize("path, root_path, script_name, path_info", [
    ("/app/x", "/app", "/app", "/x"),
    ("/app/x", "/app/", "/app", "/x"),
    ("/app", "/app", "/app", ""),
    ("/app/", "/app", "/app", "/"),
    ("/application", "/app", "/app", "/application"),
    ("/other", "/app", "/app", "/other"),
    ("/%61pp/x", "/app", "/app", "/x"),
    ("/caf%C3%A9/x", "/café", "/caf\xc3\xa9", "/x"),
    ("/%zz%4", "", "", "/%zz%4"),
    ("*", "", "", "*"),
])
def test_script_name_and_path_info(path, root_path, script_name, path_info):
    environ = environ_of(path=path, settings={"root_path": root_path})
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == (script_name, path_info)


def test_latin1_all_over():
    environ = environ_of(path=b"/caf%C3%A9/\xe9", query=b"q=\xff", headers=[("x-name", b"\xe4\xf6\x80")])
    assert environ["PATH_INFO"].encode("latin-1") == b"/caf\xc3\xa9/\xe9"
    assert environ["QUERY_STRING"].encode("latin-1") == b"q=\xff"
    assert environ["HTTP_X_NAME"].encode("latin-1") == b"\xe4\xf6\x80"


def test_repeated_headers_are_joined():
    environ = environ_of(headers=[("accept", "a"), ("cookie", "x=1"), ("accept", "b"), ("cookie", "y=2"), ("accept", "c")])
    assert environ["HTTP_ACCEPT"] == "a,b,c"
    assert environ["HTTP_COOKIE"] == "x=1; y=2"


def test_headers_that_have_no_place_in_the_environ():
    environ = environ_of("POST", body=b"12345", headers=[
        ("proxy", "http://evil"), ("transfer-encoding", "chunked"), ("x_forwarded_for", "1.2.3.4"),
        ("content-length", "99"), ("content-type", "text/plain"),
    ])
    assert environ["CONTENT_LENGTH"] == "5"
    assert environ["CONTENT_TYPE"] == "text/plain"
    assert not [key for key in environ if key.startswith("HTTP_")]


def test_content_length_of_an_empty_body():
    assert environ_of("POST", headers=[("content-length", "0")])["CONTENT_LENGTH"] == "0"
    assert "CONTENT_LENGTH" not in environ_of("GET")


@pytest.mark.parametrize("more, expected", [
    (dict(version=10), {"SERVER_PROTOCOL": "HTTP/1.0", "wsgi.url_scheme": "http"}),
    (dict(version=20, https=True), {"SERVER_PROTOCOL": "HTTP/2", "wsgi.url_scheme": "https", "HTTPS": "on"}),
    (dict(client=None), {"REMOTE_ADDR": "", "REMOTE_PORT": None}),
    (dict(server=("/run/x.sock", 0)), {"SERVER_NAME": "localhost", "SERVER_PORT": "80"}),
    (dict(server=("/run/x.sock", 0), https=True), {"SERVER_PORT": "443"}),
    (dict(server=("/run/x.sock", 0), headers=[("host", "a.example:81")]),
     {"SERVER_NAME": "a.example", "SERVER_PORT": "81"}),
    (dict(server=("/run/x.sock", 0), headers=[("host", "[::1]")]), {"SERVER_NAME": "[::1]", "SERVER_PORT": "80"}),
    (dict(server=("/run/x.sock", 0), headers=[("host", "[::1]:8")]), {"SERVER_NAME": "[::1]", "SERVER_PORT": "8"}),
    (dict(method="BREW"), {"REQUEST_METHOD": "BREW"}),
    (dict(settings={"threads": 3, "multiprocess": True}), {"wsgi.multithread": True, "wsgi.multiprocess": True}),
])
def test_environ_variants(more, expected):
    environ = environ_of(**more)
    assert {key: environ.get(key) for key in expected} == expected


def test_environs_are_not_shared():
    def app(environ):
        seen = environ.get("mark")
        environ["mark"] = "seen"
        return {"mark": seen}

    with serve(text_app(app)) as worker:
        assert [worker.get("/").json() for _ in range(3)] == [{"mark": None}] * 3


# --- wsgiref's validator ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("request_of", [
    dict(method="GET", path="/x?y"),
    dict(method="HEAD", path="/x"),
    dict(method="POST", path="/x", body=BODY, headers=[("content-length", str(len(BODY)))]),
    dict(method="POST", path="/x", file_body=BODY * 1000),
])
def test_the_validator_is_content(request_of):
    @validator
    def app(environ, start_response):
        body = environ["wsgi.input"].read(1 << 30)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [body] if environ["REQUEST_METHOD"] == "POST" else [b"hello"]

    with serve(app) as worker:
        response = worker.fetch(**request_of)
        assert response.status == 200, worker.log()
        expected = request_of.get("body") or request_of.get("file_body") or b"hello"
        assert response.body == (b"" if request_of["method"] == "HEAD" else expected)
        assert worker.log() == ""


# --- wsgi.input -------------------------------------------------------------------------------------------------------

READERS = {
    "read": lambda stream: [stream.read()],
    "read(-1)": lambda stream: [stream.read(-1)],
    "read(n)": lambda stream: list(iter(lambda: stream.read(7), b"")),
    "read(too much)": lambda stream: [stream.read(1 << 20), stream.read(1), stream.read()],
    "readline": lambda stream: list(iter(stream.readline, b"")),
    "readline(n)": lambda stream: list(iter(lambda: stream.readline(4), b"")),
    "readlines": lambda stream: stream.readlines(),
    "readlines(hint)": lambda stream: stream.readlines(12) + stream.readlines(),
    "iterate": lambda stream: list(stream),
    "mix": lambda stream: [stream.readline(), stream.read(3), next(stream), stream.read(5), stream.readline(2),
                           *stream.readlines(), stream.read()],
    "readinto": lambda stream: [bytes((buffer := bytearray(10))[: stream.readinto(buffer)]), stream.read()],
    "again": lambda stream: [stream.read(5), stream.read(0), str(stream.seek(0)).encode()[:0], stream.read()][2:],
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("kind", ["inline", "file"])
def test_reading_the_body(name, kind):
    import io

    app = text_app(lambda environ: [piece.decode() for piece in READERS[name](environ["wsgi.input"])])
    expected = [piece.decode() for piece in READERS[name](io.BytesIO(BODY))]
    with serve(app) as worker:
        body = {"body": BODY} if kind == "inline" else {"file_body": BODY}
        assert worker.fetch("POST", "/", **body).json() == expected


def test_a_large_file_body_arrives_whole():
    content = os.urandom(3 << 20)

    def app(environ, start_response):
        stream = environ["wsgi.input"]
        pieces = [stream.read(100_000), stream.read(1), stream.read(1_000_000), stream.read()]
        start_response("200 OK", [])
        return [b"".join(pieces)]

    with serve(app) as worker:
        assert worker.fetch("POST", "/", file_body=content).body == content


def test_the_body_file_is_limited_and_its_offset_not_used():
    """The front's file may be longer than the body, and its offset is shared with whoever had it before."""
    app = text_app(lambda environ: environ["wsgi.input"].read())
    with serve(app) as worker:
        exchange = worker.open_stream()
        descriptor = os.memfd_create("body")
        os.write(descriptor, b"0123456789")
        import struct

        from front import encode_fields, medium, short

        head = struct.pack("<BBBBQ", 0, 11, 0, 2, 4) + short(b"POST") + medium(b"/") + medium(b"")
        head += short(b"127.0.0.1") + struct.pack("<H", 1) + short(b"127.0.0.1") + struct.pack("<H", 80)
        head += encode_fields([])
        payload = struct.pack("<II", exchange.cell, len(head)) + head
        worker.send_frame(exchange.stream, Kind.REQUEST, payload, 1, descriptor)
        assert exchange.response().body == b"0123"
        assert os.lseek(descriptor, 0, os.SEEK_CUR) == 10
        os.close(descriptor)


def test_the_body_file_is_closed_after_the_request():
    app = text_app(lambda environ: sorted(os.readlink(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd")
                                          if os.path.exists(f"/proc/self/fd/{n}")))
    with serve(app) as worker:
        before = worker.get("/").json()
        worker.fetch("POST", "/", file_body=b"x")
        assert worker.get("/").json() == before


# --- start_response ---------------------------------------------------------------------------------------------------


def test_a_complete_answer_is_one_frame():
    with serve(text_app(lambda environ: b"hello")) as worker:
        response = worker.get("/")
        assert (response.frames, response.body) == ([Kind.HEAD], b"hello")


@pytest.mark.parametrize("body, length", [
    ([b"hello"], b"5"), ((b"hello",), b"5"), ([b"a", b"", b"bc"], b"3"), ([], b"0"), ((), b"0"), ([b""], b"0"),
    (iter([]), b"0"), (iter([b"", b""]), b"0"),
])
def test_the_length_is_added_where_it_is_known(body, length):
    def app(environ, start_response):
        start_response("200 OK", [])
        return body

    with serve(app) as worker:
        response = worker.get("/")
        assert response["content-length"] == length
        assert response.frames == [Kind.HEAD]


def test_an_object_with_one_piece_gets_a_length():
    class Body:
        def __len__(self):
            return 1

        def __iter__(self):
            return iter([b"hello"])

    def app(environ, start_response):
        start_response("200 OK", [])
        return Body()

    with serve(app) as worker:
        response = worker.get("/")
        assert (response["content-length"], response.body, response.frames) == (b"5", b"hello", [Kind.HEAD])


def test_late_start_response_in_a_generator():
    def app(environ, start_response):
        yield b""
        start_response("201 Created", [("X-Late", "yes")])
        yield b""
        yield b"a"
        yield b"b"

    with serve(app) as worker:
        response = worker.get("/")
        assert (response.status, response["x-late"], response.body) == (201, b"yes", b"ab")
        assert response["content-length"] is None
        assert response.frames == [Kind.HEAD, Kind.DATA, Kind.DATA]


def test_each_piece_leaves_before_the_next_is_made():
    def app(environ, start_response):
        start_response("200 OK", [])
        read, _ = os.pipe()
        yield b"first"
        yield environ["wsgi.input"].read()
        os.read(read, 1)  # for ever

    with serve(app) as worker:
        exchange = worker.request("POST", "/", body=b"second")
        status, _, first, is_end = exchange.head()
        assert (status, first, is_end) == (200, b"first", False)
        assert exchange.expect(Kind.DATA).payload == b"second"
        os.kill(worker.pid, 9)
        worker.wait_exit()


def test_the_answer_ends_where_its_length_is_reached(tmp_path):
    mark = tmp_path / "mark"

    def app(environ, start_response):
        start_response("200 OK", [("Content-Length", "4")])
        yield b"ab"
        yield b"cd"
        while not mark.exists():
            pass

    with serve(app) as worker:
        response = worker.request("GET", "/").response()
        assert response.body == b"abcd"
        mark.touch()
        assert worker.get("/").body == b"abcd"


def test_write():
    def app(environ, start_response):
        write = start_response("200 OK", [])
        write(b"a")
        write(b"")
        write(b"b")
        return [b"c", b"d"]

    with serve(app) as worker:
        response = worker.get("/")
        assert response.body == b"abcd"
        assert response["content-length"] is None


def test_write_with_a_length():
    def app(environ, start_response):
        write = start_response("200 OK", [("Content-Length", "2")])
        write(b"ab")
        return []

    with serve(app) as worker:
        response = worker.get("/")
        assert (response.body, response.frames) == (b"ab", [Kind.HEAD])


def test_exc_info_replaces_a_head_that_was_not_sent():
    import sys

    def app(environ, start_response):
        start_response("200 OK", [("X-Old", "1")])
        try:
            raise ValueError("late")
        except ValueError:
            start_response("500 Oops", [("X-New", "1")], sys.exc_info())
        return [b"sorry"]

    with serve(app) as worker:
        response = worker.get("/")
        assert (response.status, response["x-old"], response["x-new"]) == (500, None, b"1")


def test_exc_info_after_the_head_raises_the_error_again():
    import sys

    def app(environ, start_response):
        start_response("200 OK", [])
        yield b"begin"
        try:
            raise ValueError("in the middle")
        except ValueError:
            start_response("500 Oops", [], sys.exc_info())
        yield b"never"

    with serve(app) as worker:
        exchange = worker.request("GET", "/")
        with pytest.raises(Aborted) as aborted:
            exchange.response()
        assert (aborted.value.reason, aborted.value.head_sent) == ("raised", True)
        assert "ValueError: in the middle" in worker.wait_log("GET /")


def twice(environ, start_response):
    start_response("200 OK", [])
    start_response("200 OK", [])
    return []


def bad_head(status, headers):
    def app(environ, start_response):
        start_response(status, headers)
        return [b""]

    return app


def bad_body(body):
    def app(environ, start_response):
        start_response("200 OK", [])
        return body

    return app


@pytest.mark.parametrize("app, reason, log", [
    (twice, "raised", "called twice"),
    (bad_head(200, []), "raised", "TypeError: the status must be a str"),
    (bad_head("OK", []), "raised", "invalid status"),
    (bad_head("2000 OK", []), "raised", "invalid status"),
    (bad_head("200 O\r\nK", []), "raised", "invalid status"),
    (bad_head("200 ☃", []), "raised", "outside Latin-1"),
    (bad_head("100 Continue", []), "raised", "informational"),
    (bad_head("200 OK", [("X", "a\r\nSet-Cookie: b")]), "raised", "control character"),
    (bad_head("200 OK", [("X", "a\0")]), "raised", "control character"),
    (bad_head("200 OK", [("X", "☃")]), "raised", "outside Latin-1"),
    (bad_head("200 OK", [("X", "\ud800")]), "raised", "outside Latin-1"),
    (bad_head("200 OK", [("X", b"bytes")]), "raised", "must be a str, not bytes"),
    (bad_head("200 OK", [("X Y", "a")]), "raised", "not a valid name"),
    (bad_head("200 OK", [("", "a")]), "raised", "not a valid name"),
    (bad_head("200 OK", [("X:", "a")]), "raised", "not a valid name"),
    (bad_head("200 OK", ["X"]), "raised", "must be a (name, value) tuple"),
    (bad_head("200 OK", [("X", "a", "b")]), "raised", "must be a (name, value) tuple"),
    (bad_head("200 OK", [("X", "a" * 70000)]), "raised", "too long"),
    (bad_head("200 OK", [("X", "a" * 60000)] * 3), "raised", "too many header fields"),
    (bad_head("200 OK", [("X", "a")] * 2000), "raised", "too many header fields"),
    (bad_head("200 OK", [("Content-Length", "x")]), "raised", "invalid Content-Length"),
    (bad_head("200 OK", [("Content-Length", "-1")]), "raised", "invalid Content-Length"),
    (bad_head("200 OK", [("Content-Length", "1"), ("content-length", "2")]), "raised", "two different values"),
    (bad_body(b"bytes"), "raised", "returned bytes, not an iterable"),
    (bad_body("text"), "raised", "returned str, not an iterable"),
    (bad_body(["text"]), "raised", "yielded str, not bytes"),
    (bad_body({1: 2}), "raised", "yielded int, not bytes"),
    (bad_body(None), "raised", "TypeError"),
    (lambda environ, start_response: [b"x"], "incomplete", "did not call start_response"),
    (lambda environ, start_response: iter([b"x"]), "incomplete", "did not call start_response"),
    (lambda environ, start_response: iter([]), "incomplete", "did not call start_response"),
    (bad_head("200 OK", [("Content-Length", "5")]), "incomplete", "announced 5 bytes of body and returned 0"),
])
def test_broken_answers_are_aborted_and_logged(app, reason, log):
    with serve(app) as worker:
        exchange = worker.request("GET", "/path?q")
        with pytest.raises(Aborted) as aborted:
            exchange.response()
        assert (aborted.value.reason, aborted.value.head_sent) == (reason, False)
        text = worker.wait_log(": GET /path")
        assert log in text
        assert worker.request("GET", "/").abort_reason() == reason, "the worker still serves"


def test_an_application_that_raises():
    def app(environ, start_response):
        raise ValueError("my fault")

    with serve(app) as worker:
        exchange = worker.request("DELETE", "/thing")
        assert exchange.abort_reason() == "raised"
        log = worker.wait_log("ValueError: my fault")
        assert "the application failed: DELETE /thing" in log
        assert "Traceback" in log


def test_too_few_bytes_after_the_head_are_an_abort():
    def app(environ, start_response):
        start_response("200 OK", [("Content-Length", "10")])
        yield b"only"

    with serve(app) as worker:
        with pytest.raises(Aborted) as aborted:
            worker.request("GET", "/").response()
        assert (aborted.value.reason, aborted.value.head_sent) == ("incomplete", True)
        assert "announced 10 bytes of body and returned 4" in worker.log()


@pytest.mark.parametrize("body", [[b"abcdef"], [b"ab", b"cdef"], iter([b"ab", b"cdef", b"gh"])])
def test_too_many_bytes_are_cut(body):
    def app(environ, start_response):
        start_response("200 OK", [("Content-Length", "3")])
        return body

    with serve(app) as worker:
        assert worker.get("/").body == b"abc"
        assert worker.wait_log("the rest is cut off").count("cut off") == 1


def test_hop_by_hop_fields_are_dropped():
    def app(environ, start_response):
        start_response("200 OK", [("Connection", "close"), ("Transfer-Encoding", "chunked"), ("X-Kept", " a b\t"),
                                  ("Keep-Alive", "5"), ("X-Latin", "\xe9"), ("Set-Cookie", "a"), ("Set-Cookie", "b")])
        return [b""]

    with serve(app) as worker:
        response = worker.get("/")
        assert response.headers == [(b"x-kept", b"a b"), (b"x-latin", b"\xe9"), (b"set-cookie", b"a"),
                                    (b"set-cookie", b"b"), (b"content-length", b"0")]
        worker.get("/")
        for name in ("connection", "transfer-encoding", "keep-alive"):
            assert worker.log().count(f"drops the header field \"{name}\"") == 1


@pytest.mark.parametrize("method, status, headers, body, expected", [
    ("HEAD", "200 OK", [("Content-Length", "5")], [b"hello"], b"5"),
    ("HEAD", "200 OK", [("Content-Length", "5")], [], b"5"),
    ("HEAD", "200 OK", [], iter([b"endless"] * 3), None),
    ("GET", "204 No Content", [], [b""], None),
    ("GET", "204 No Content", [], [b"wrong"], None),
    ("GET", "204 No Content", [("Content-Length", "0")], [], None),
    ("GET", "304 Not Modified", [("ETag", "x")], [], None),
])
def test_answers_without_a_body(method, status, headers, body, expected):
    def app(environ, start_response):
        start_response(status, headers)
        return body

    with serve(app) as worker:
        response = worker.fetch(method, "/")
        assert (response.body, response["content-length"], response.frames) == (b"", expected, [Kind.HEAD])


def test_head_with_an_endless_generator():
    def app(environ, start_response):
        try:
            start_response("200 OK", [])
            while True:
                yield b"x"
        finally:
            print("closed", flush=True)

    with serve(app) as worker:
        assert worker.fetch("HEAD", "/").body == b""
        worker.wait_log("closed")


def test_early_hints():
    def app(environ, start_response):
        environ["wsgi.early_hints"]([("Link", "</a.css>; rel=preload"), ("Link", "</b.js>; rel=preload")])
        start_response("200 OK", [])
        yield b"body"
        environ["wsgi.early_hints"]([("Link", "too late")])

    with serve(app) as worker:
        response = worker.get("/")
        assert response.hints == [(103, [(b"link", b"</a.css>; rel=preload"), (b"link", b"</b.js>; rel=preload")])]
        assert response.body == b"body"
        assert response.frames == [Kind.HINT, Kind.HEAD, Kind.DATA]


def test_late_hints_reach_no_other_request():
    """The callable belongs to its request, also when the thread serves another one by now."""
    kept = []

    def app(environ, start_response):
        if environ["PATH_INFO"] == "/keep":
            kept.append(environ["wsgi.early_hints"])
        else:
            kept[0]([("Link", "of the first")])
        start_response("200 OK", [])
        return [b"body"]

    with serve(app) as worker:
        worker.get("/keep")
        response = worker.get("/")
        assert (response.body, response.hints) == (b"body", [])


def test_a_websocket_is_refused():
    with serve(text_app(lambda environ: b"hello")) as worker:
        assert worker.websocket("/").abort_reason() == "unsupported"
        assert worker.request("POST", "/", stream=True).abort_reason() == "unsupported"
        assert worker.get("/").body == b"hello"


# --- large bodies -----------------------------------------------------------------------------------------------------


def test_bodies_are_cut_into_frames():
    content = os.urandom(DATA_CHUNK_MAX * 2 + 100)

    def app(environ, start_response):
        start_response("200 OK", [])
        return {"/list": [content], "/pieces": [content[:100_000], content[100_000:]]}.get(
            environ["PATH_INFO"], iter([content]))

    with serve(app) as worker:
        for path in ("/list", "/pieces", "/iterator"):
            exchange = worker.request("GET", path)
            sizes, body = [], b""
            _, headers, data, is_end = exchange.head()
            while True:
                sizes.append(len(data))
                body += data
                if is_end:
                    break
                frame = exchange.expect(Kind.DATA)
                data, is_end = frame.payload, frame.is_end
            assert body == content
            assert max(sizes) <= DATA_CHUNK_MAX
            assert (b"content-length" in dict(headers)) == (path != "/iterator")


@pytest.mark.parametrize("threads", [1, 3])
def test_the_window_stops_a_response_and_credit_resumes_it(threads):
    size = RESPONSE_WINDOW * 2 + 12345

    def app(environ, start_response):
        start_response("200 OK", [])
        return iter([b"x" * 10_000] * (size // 10_000) + [b"y" * (size % 10_000)])

    with serve(app, threads=threads) as worker:
        exchange = worker.request("GET", "/")
        _, _, body, is_end = exchange.head()
        while len(body) < RESPONSE_WINDOW:
            frame = exchange.expect(Kind.DATA)
            body += frame.payload
        assert len(body) == RESPONSE_WINDOW
        assert exchange.quiet(0.2)
        exchange.window(1000)
        assert len(exchange.expect(Kind.DATA).payload) == 1000
        assert exchange.quiet(0.1)
        exchange.window(RESPONSE_WINDOW)
        exchange.window(RESPONSE_WINDOW)
        rest = 1000
        while not is_end:
            frame = exchange.expect(Kind.DATA)
            rest += len(frame.payload)
            is_end = frame.is_end
        assert RESPONSE_WINDOW + rest == size


def test_many_large_answers_fill_the_socket_both_ways():
    """The worker cannot write while the front does not read, and must not need the front to."""

    def app(environ, start_response):
        start_response("200 OK", [])
        return [environ["wsgi.input"].read() * 4]

    with serve(app) as worker:
        worker.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        content = os.urandom(200_000)
        exchanges = [worker.request("POST", "/", body=content) for _ in range(20)]
        for exchange in exchanges:
            assert exchange.response().body == content * 4
