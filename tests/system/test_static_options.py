"""Options of static files through the real program: compressed siblings, how long files may be kept, types."""

import os
from pathlib import Path

import httpx
import pytest

from harness import Server
from harness.raw import exchange

IMMUTABLE = "public, max-age=31536000, immutable"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    site = tmp_path_factory.mktemp("site")
    for name in ("app.css", "app.css.br", "app.css.gz", "app.55e7cbb9ba48.css", "page.html", "scene.glb"):
        (site / name).write_text(name)
        os.utime(site / name, (1_700_000_000, 1_700_000_000))
    return site


@pytest.fixture(scope="module")
def server(serve_module, site: Path) -> Server:
    return serve_module(
        "plain_wsgi:app",
        *("--static-dir", f"/static={site}"),
        *("--static-cache", "/static/app.css=1h", "--static-cache", "*.html=no-cache"),
        *("--static-type", ".glb=model/gltf-binary"),
        binds=("http://127.0.0.1:0",),
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
