"""`wsgi.file_wrapper`: which files go to the front as descriptors, and from where to where."""

import gzip
import io
import os
import tempfile

import django.core.files
import pytest

from front import Aborted, FilePart, Kind, Worker

CONTENT = bytes(range(256)) * 1000


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    return path


def fetch(open_file, headers=(), method="GET", status="200 OK"):
    """The response to an application that returns a wrapped file, and the worker's log."""

    def app(environ, start_response):
        start_response(status, list(headers))
        return environ["wsgi.file_wrapper"](open_file(), 4096)

    with Worker(app, interface="wsgi") as worker:
        response = worker.fetch(method, "/")
        # Twice, because a descriptor that leaks or is closed too early shows itself in the second request.
        assert worker.fetch(method, "/").body == response.body
        return response, worker.log()


class Shouting:
    """An object around a file that changes what is read from it."""

    def __init__(self, file):
        self.file = file

    def read(self, size=-1):
        return self.file.read(size).upper()

    def __getattr__(self, name):
        return getattr(self.file, name)


class ShoutingFile(django.core.files.File):
    """Django's, with a `read` of its own."""

    def read(self, size=-1):
        return self.file.read(size).upper()


def at(file, position):
    file.seek(position)
    return file


def after_reading(file, count):
    file.read(count)
    return file


@pytest.mark.parametrize("make, headers, offset, length", [
    (lambda path: open(path, "rb"), [], 0, len(CONTENT)),
    (lambda path: open(path, "rb", buffering=0), [], 0, len(CONTENT)),
    (lambda path: open(path, "r+b"), [], 0, len(CONTENT)),
    (lambda path: tempfile._TemporaryFileWrapper(open(path, "rb"), str(path), delete=False), [], 0, len(CONTENT)),
    (lambda path: django.core.files.File(open(path, "rb")), [], 0, len(CONTENT)),
    (lambda path: at(open(path, "rb"), 1000), [], 1000, len(CONTENT) - 1000),
    (lambda path: after_reading(open(path, "rb"), 7), [], 7, len(CONTENT) - 7),
    (lambda path: at(open(path, "rb"), 10), [("Content-Length", "100")], 10, 100),
])
def test_plain_files_go_to_the_front(path, make, headers, offset, length):
    response, log = fetch(lambda: make(path), headers)
    assert response.files == [FilePart(offset, length, CONTENT[offset : offset + length])]
    assert response.frames == [Kind.HEAD, Kind.FILE]
    assert response["content-length"] == str(length).encode()
    assert log == ""


def test_what_python_has_buffered_is_written_first():
    def make():
        file = tempfile.TemporaryFile()
        file.write(b"written, not flushed")
        file.seek(0)
        file.write(b"W")
        file.seek(8, os.SEEK_SET)
        return file

    response, _ = fetch(make)
    assert response.body == b" not flushed"
    assert len(response.files) == 1


class NoClose:
    """Only read(): all that PEP 3333 asks for."""

    def __init__(self, content):
        self.read = io.BytesIO(content).read


@pytest.mark.parametrize("make", [
    lambda path: io.BytesIO(CONTENT),
    lambda path: NoClose(CONTENT),
    lambda path: gzip.GzipFile(fileobj=io.BytesIO(gzip.compress(CONTENT))),
])
def test_other_objects_are_read(path, make):
    response, log = fetch(lambda: make(path))
    assert (response.body, response.files, log) == (CONTENT, [], "")


@pytest.mark.parametrize("kind", [Shouting, ShoutingFile])
def test_an_object_around_a_file_is_read(tmp_path, kind):
    (tmp_path / "file").write_bytes(b"quiet")
    response, _ = fetch(lambda: kind(open(tmp_path / "file", "rb")))
    assert (response.body, response.files) == (b"QUIET", [])


def test_a_compressed_file_is_not_sent_raw(tmp_path):
    path = tmp_path / "file.gz"
    path.write_bytes(gzip.compress(CONTENT))
    response, _ = fetch(lambda: gzip.open(path))
    assert response.body == CONTENT


def test_a_pipe_is_read():
    def make():
        read, write = os.pipe()
        os.write(write, b"through a pipe")
        os.close(write)
        return open(read, "rb")

    response, _ = fetch(make)
    assert (response.body, response.files) == (b"through a pipe", [])


def test_an_empty_file(tmp_path):
    (tmp_path / "empty").touch()
    response, _ = fetch(lambda: open(tmp_path / "empty", "rb"))
    assert (response.body, response["content-length"], response.frames) == (b"", b"0", [Kind.HEAD])


def test_head_and_not_modified_send_no_file(path):
    length = str(len(CONTENT))
    response, _ = fetch(lambda: open(path, "rb"), [("Content-Length", length)], method="HEAD")
    assert (response.frames, response["content-length"]) == ([Kind.HEAD], length.encode())
    response, _ = fetch(lambda: open(path, "rb"), status="304 Not Modified")
    assert response.frames == [Kind.HEAD]


def test_a_file_shorter_than_announced(path):
    def app(environ, start_response):
        start_response("200 OK", [("Content-Length", str(len(CONTENT) + 1))])
        return environ["wsgi.file_wrapper"](open(path, "rb"))

    with Worker(app, interface="wsgi") as worker:
        with pytest.raises(Aborted) as aborted:
            worker.request("GET", "/").response()
        assert aborted.value.reason == "incomplete"


def test_the_file_is_closed_and_the_wrapper_iterable(path):
    files = []

    def app(environ, start_response):
        wrapper = environ["wsgi.file_wrapper"]
        if environ["PATH_INFO"] == "/iterate":
            start_response("200 OK", [])
            pieces = list(wrapper(io.BytesIO(b"abcdef"), 4))
            return [repr(pieces).encode()]
        if environ["PATH_INFO"] == "/closed":
            start_response("200 OK", [])
            return [repr([file.closed for file in files]).encode()]
        files.append(open(path, "rb"))
        start_response("200 OK", [])
        return wrapper(files[-1])

    with Worker(app, interface="wsgi") as worker:
        assert worker.get("/iterate").body == b"[b'abcd', b'ef']"
        assert worker.get("/").body == CONTENT
        assert worker.get("/closed").body == b"[True]"
