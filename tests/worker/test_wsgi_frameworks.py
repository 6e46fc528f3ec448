"""Real frameworks on a WSGI worker, each in its own process. Skipped where they are not installed."""

import textwrap

import pytest

from front import Kind
from supervisor import Zygote

FLASK = """
    import io
    from flask import Flask, Response, request, send_file, session
    app = Flask(__name__)
    app.secret_key = "x"

    @app.post("/form")
    def form():
        upload = request.files["upload"]
        return {"name": request.form["name"], "size": len(upload.read()), "file": upload.filename}

    @app.get("/stream")
    def stream():
        return Response((f"{n}\\n" for n in range(3)), mimetype="text/plain")

    @app.get("/file")
    def file():
        return send_file(__file__)

    @app.get("/where/<path:rest>")
    def where(rest):
        return {"rest": rest, "url": request.url, "root": request.script_root, "address": request.remote_addr}

    @app.get("/fail")
    def fail():
        raise RuntimeError("handled by flask")
"""

DJANGO = """
    import os
    from django.conf import settings
    settings.configure(DEBUG=False, ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY="x",
                       MIDDLEWARE=["django.middleware.common.CommonMiddleware"])
    from django.core.wsgi import get_wsgi_application
    from django.http import FileResponse, HttpResponse, JsonResponse, StreamingHttpResponse
    from django.urls import path

    def form(request):
        upload = request.FILES["upload"]
        return JsonResponse({"name": request.POST["name"], "size": upload.size, "file": upload.name})

    urlpatterns = [
        path("form", form),
        path("stream", lambda request: StreamingHttpResponse(f"{n}\\n" for n in range(3))),
        path("file", lambda request: FileResponse(open(__file__, "rb"))),
        path("text", lambda request: HttpResponse("text", content_type="text/plain")),
    ]
    application = get_wsgi_application()
"""


def multipart(size):
    boundary = "xyzzy"
    body = (f"--{boundary}\r\nContent-Disposition: form-data; name=\"name\"\r\n\r\nvalue\r\n"
            f"--{boundary}\r\nContent-Disposition: form-data; name=\"upload\"; filename=\"a.bin\"\r\n"
            "Content-Type: application/octet-stream\r\n\r\n").encode()
    body += b"z" * size + f"\r\n--{boundary}--\r\n".encode()
    return body, [("content-type", f"multipart/form-data; boundary={boundary}"), ("host", "localhost")]


@pytest.fixture(params=["flask", "django"])
def worker(request, tmp_path):
    pytest.importorskip(request.param)
    text = {"flask": FLASK, "django": DJANGO}[request.param]
    (tmp_path / "site_app.py").write_text(textwrap.dedent(text))
    with Zygote(tmp_path, app="site_app", threads=2) as zygote:
        worker = zygote.fork(1)
        worker.framework = request.param
        yield worker


HOST = [("host", "localhost")]


@pytest.mark.parametrize("size", [10, 3_000_000])
def test_uploads(worker, size):
    body, headers = multipart(size)
    content = {"body": body} if size < 1000 else {"file_body": body}
    response = worker.fetch("POST", "/form", headers, **content)
    assert response.json() == {"name": "value", "size": size, "file": "a.bin"}
    assert response.frames == [Kind.HEAD]


def test_streams(worker):
    response = worker.get("/stream", HOST)
    assert response.body == b"0\n1\n2\n"
    assert response.frames == [Kind.HEAD, Kind.DATA, Kind.DATA, Kind.DATA]


def test_files(worker):
    response = worker.get("/file", HOST)
    assert b"site_app" not in response.body and b"stream" in response.body
    assert response["content-length"] == str(len(response.body)).encode()
    assert len(response.files) == 1, "the front sends it"


def test_errors(worker):
    path = "/fail" if worker.framework == "flask" else "/nothing"
    assert worker.get(path, HOST).status == (500 if worker.framework == "flask" else 404)
    assert worker.fetch("HEAD", "/file", HOST).body == b""
