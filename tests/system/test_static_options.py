"""Options of static files through the real program, and files that the application has sent."""

import os
from pathlib import Path

import httpx
import pytest

from harness import Server
from harness.raw import RawConnection, exchange

IMMUTABLE = "max-age=31536000, immutable"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    site = tmp_path_factory.mktemp("site")
    for name in ("app.css", "app.css.br", "app.css.gz", "app.55e7cbb9ba48.css", "page.html", "scene.glb"):
        (site / name).write_text(name)
        os.utime(site / name, (1_700_000_000, 1_700_000_000))
    (site / "index.html").write_text("the page")
    (site / "assets").mkdir()
    (site / "about.html").write_text("about")
    return site


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> Path:
    private = tmp_path_factory.mktemp("private")
    (private / "digits.txt").write_text("0123456789")
    (private / ".hidden").write_text("secret")
    (private.parent / "beside.txt").write_text("secret")
    return private


@pytest.fixture(scope="module")
def server(serve_module, site: Path, private: Path) -> Server:
    return serve_module(
        "sending:app",
        *("--static-dir", f"/static={site}", "--static-dir", f"/={site}", "--internal-dir", f"/protected={private}"),
        *("--static-fallback", "/=index.html", "--static-fallback", "/api=app", "--static-clean-urls", "/"),
        *("--static-cache", "/static/app.css=1h", "--static-cache", "*.html=no-cache"),
        *("--static-type", ".glb=model/gltf-binary"),
        binds=("http://127.0.0.1:0",),
        env={"PRIVATE": str(private)},
    )


@pytest.mark.parametrize(
    "accepted,encoding,body",
    [
        ("gzip, deflate, br, zstd", "br", b"app.css.br"),
        ("zstd, gzip", "gzip", b"app.css.gz"),
        ("gzip;q=0.8, br;q=0.2", "gzip", b"app.css.gz"),
        ("br;q=0, gzip;q=0", None, b"app.css"),
        (None, None, b"app.css"),
    ],
)
def test_compressed_siblings(server: Server, accepted: str | None, encoding: str | None, body: bytes) -> None:
    field = f"Accept-Encoding: {accepted}\r\n" if accepted else ""
    answer = exchange(server.url, f"GET /static/app.css HTTP/1.1\r\nHost: localhost\r\n{field}\r\n")
    assert (answer.status, answer.header("content-encoding"), answer.body) == (200, encoding, body)
    assert answer.header("vary") == "accept-encoding"
    assert answer.header("content-type") == "text/css; charset=utf-8"


@pytest.mark.parametrize(
    "name,value",
    [
        ("app.css", "max-age=3600"),
        ("page.html", "no-cache"),
        ("app.55e7cbb9ba48.css", IMMUTABLE),
        ("scene.glb", None),
    ],
)
def test_how_long_files_may_be_kept(server: Server, name: str, value: str | None) -> None:
    answer = httpx.get(f"{server.url}/static/{name}", headers={"accept-encoding": "identity"})
    assert (answer.status_code, answer.headers.get("cache-control")) == (200, value)
    again = httpx.get(f"{server.url}/static/{name}", headers={"if-none-match": answer.headers["etag"], "accept-encoding": "identity"})
    assert (again.status_code, again.headers.get("cache-control")) == (304, value)


def test_type_of_an_ending(server: Server) -> None:
    assert httpx.get(f"{server.url}/static/scene.glb").headers["content-type"] == "model/gltf-binary"


BROWSER = "text/html,application/xhtml+xml,*/*;q=0.8"


@pytest.mark.parametrize(
    "path,accept,body",
    [
        ("/shop/cart", BROWSER, "the page"),
        ("/assets", BROWSER, "the page"),
        ("/about", BROWSER, "about"),
        ("/about", "*/*", "about"),
        ("/shop/cart", "application/json", "the application"),
        ("/missing.js", BROWSER, "the application"),
        ("/api/items", BROWSER, "the application"),
    ],
)
def test_fallback_of_a_single_page_application(server: Server, path: str, accept: str, body: str) -> None:
    answer = httpx.get(server.url + path, headers={"accept": accept})
    assert (answer.status_code, answer.text) == (200, body)
    if body == "the page":
        # The rule for *.html; without one it would be the same.
        assert answer.headers["cache-control"] == "no-cache"
        assert {"accept", "accept-encoding"} == set(answer.headers.get_list("vary"))


def named(server: Server, by: str, file: object, **options: object) -> httpx.Response:
    """What the application's answer becomes that names this file."""
    parameters = {"by": by, "file": str(file), **options.pop("parameters", {})}  # type: ignore[dict-item]
    return httpx.request(options.pop("method", "GET"), f"{server.url}/named", params=parameters, **options)


def test_file_that_the_application_names(server: Server, private: Path) -> None:
    for by, file in [("X-Accel-Redirect", "/protected/digits.txt?x=1"), ("X-Sendfile", private / "digits.txt")]:
        answer = named(server, by, file)
        assert (answer.status_code, answer.text) == (200, "0123456789")
        assert answer.headers["content-type"] == "application/x-kept" and answer.headers["x-kept"] == "yes"
        assert by not in answer.headers and answer.headers["accept-ranges"] == "bytes"
        # The tag is the file's, not that of the body which is not sent.
        etag = answer.headers["etag"]
        assert etag != '"of the body"'
        assert named(server, by, file, headers={"if-none-match": etag}).status_code == 304
        part = named(server, by, file, headers={"range": "bytes=2-4", "if-range": etag})
        assert (part.status_code, part.text, part.headers["content-range"]) == (206, "234", "bytes 2-4/10")
        assert named(server, by, file, headers={"range": "bytes=10-"}).status_code == 416
        uncut = named(server, by, file, headers={"range": "bytes=2-4"}, parameters={"uncut": "1"})
        assert (uncut.status_code, uncut.text, uncut.headers["accept-ranges"]) == (200, "0123456789", "none")
        head = named(server, by, file, method="HEAD")
        assert (head.status_code, head.text, head.headers["content-length"]) == (200, "", "10")
        # Only answers that are 200 to GET are cut.
        for options in ({"method": "POST"}, {"parameters": {"status": "403"}}):
            whole = named(server, by, file, headers={"range": "bytes=2-4"}, **options)
            assert (whole.status_code in (200, 403), whole.text) == (True, "0123456789")
    assert named(server, "X-Accel-Redirect", "/static/page.html").text == "page.html"


def test_names_that_lead_nowhere(server: Server, private: Path) -> None:
    beside = private.parent / "beside.txt"
    for by, file in [
        ("X-Accel-Redirect", "/protected/missing.txt"),
        ("X-Accel-Redirect", "/protected/../beside.txt"),
        ("X-Accel-Redirect", "/protected/.hidden"),
        ("X-Accel-Redirect", "/protected/"),
        ("X-Accel-Redirect", "http://example.com/"),
        ("X-Sendfile", "/etc/passwd"),
        ("X-Sendfile", beside),
        ("X-Sendfile", f"{private}/../beside.txt"),
        ("X-Sendfile", private / ".hidden"),
        ("X-Sendfile", private),
        ("X-Sendfile", "digits.txt"),
    ]:
        answer = named(server, by, file)
        assert answer.status_code == 404 and "secret" not in answer.text, file
        assert by not in answer.headers
    server.wait_for_log(r"the application wants .* to be sent")
    # A client cannot ask for it.
    assert httpx.get(f"{server.url}/protected/digits.txt").text == "the application"


def test_flask_sends_a_file(server: Server) -> None:
    """`USE_X_SENDFILE`: Flask announces the length of the file, and would cut it by itself."""
    answer = httpx.get(f"{server.url}/sent/digits.txt")
    assert (answer.status_code, answer.text) == (200, "0123456789")
    assert answer.headers["content-type"].startswith("text/plain") and "x-sendfile" not in answer.headers
    part = httpx.get(f"{server.url}/sent/digits.txt", headers={"range": "bytes=8-"})
    assert (part.status_code, part.text, part.headers["content-range"]) == (206, "89", "bytes 8-9/10")
    again = httpx.get(f"{server.url}/sent/digits.txt", headers={"if-none-match": answer.headers["etag"]})
    assert again.status_code == 304


def test_file_that_the_application_has_opened(server: Server) -> None:
    """`wsgi.file_wrapper`: in parts, and with the validators of the file, unless the application has its own."""
    url = f"{server.url}/wrapped/digits.txt"
    answer = httpx.get(url)
    assert (answer.status_code, answer.text, answer.headers["accept-ranges"]) == (200, "0123456789", "bytes")
    etag = answer.headers["etag"]
    assert httpx.get(url, headers={"if-none-match": etag}).status_code == 304
    part = httpx.get(url, headers={"range": "bytes=-3", "if-range": etag})
    assert (part.status_code, part.text) == (206, "789")
    rest = httpx.get(url, params={"from": "4"}, headers={"range": "bytes=1-2"})
    assert (rest.status_code, rest.text, rest.headers["content-range"]) == (206, "56", "bytes 1-2/6")
    assert "etag" not in rest.headers
    own = httpx.get(url, params={"etag": 'W/"own"'}, headers={"if-none-match": '"own"'})
    assert (own.status_code, own.headers["etag"]) == (304, 'W/"own"')
    uncut = httpx.get(url, params={"uncut": "1"}, headers={"range": "bytes=0-0"})
    assert (uncut.status_code, uncut.text) == (200, "0123456789")


def test_file_that_shrinks_while_it_is_sent(server: Server, site: Path) -> None:
    """The length was announced: the connection is cut, nothing is filled up, and the server goes on."""
    length = 64 << 20
    path = site / "shrinking.bin"
    path.touch()
    os.truncate(path, length)
    with RawConnection(server.url) as connection:
        connection.send("GET /static/shrinking.bin HTTP/1.1\r\nHost: localhost\r\n\r\n")
        head = connection.head()
        assert (head.status, head.header("content-length")) == (200, str(length))
        os.truncate(path, 1 << 20)
        assert len(connection.rest()) < length
    assert httpx.get(f"{server.url}/static/shrinking.bin").headers["content-length"] == str(1 << 20)
    path.unlink()
