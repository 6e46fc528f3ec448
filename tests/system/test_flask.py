"""A Flask application: templates, session, form, streams of 200 MB in both directions."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from harness import Server
from harness.certificate import Certificate
from harness.curl import NAMES, curl
from harness.files import make_file, sha256_of, sha256_of_blocks

LARGE = 200_000_000
BLOCK = bytes(range(256)) * 1024


@pytest.fixture(scope="module")
def server(serve_module: Callable[..., Server]) -> Server:
    return serve_module("flask_app:app", "--max-body", "300MB", workers=2)


@pytest.fixture(scope="module")
def large_file(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    path = tmp_path_factory.mktemp("large") / "large.bin"
    return path, make_file(path, LARGE)


@pytest.fixture(params=[False, True], ids=["h1", "h2"])
def client(request: pytest.FixtureRequest, server: Server, certificate: Certificate) -> httpx.Client:
    return httpx.Client(
        base_url=server.https_url,
        verify=certificate.context(),
        http1=not request.param,
        http2=request.param,
        timeout=240,
    )


def test_template_and_absolute_address(server: Server, client: httpx.Client) -> None:
    page = client.get("/hello/Wörld").text
    assert "<h1>Hello Wörld</h1>" in page
    assert f"{server.https_url}/hello/W%C3%B6rld" in page
    assert "<p id=address>127.0.0.1</p>" in page


def test_session_cookie_survives_a_redirect(client: httpx.Client) -> None:
    answer = client.post("/login", data={"user": "ada"}, follow_redirects=True)
    assert answer.json()["user"] == "ada"
    assert answer.json()["secure"] is True


def test_form_with_a_file(client: httpx.Client, tmp_path: Path) -> None:
    content = b"\0\xff" * 100_000
    answer = client.post("/form", data={"note": "ñ"}, files={"file": ("näme.bin", content)}).json()
    assert answer == {"name": "näme.bin", "sha256": hashlib.sha256(content).hexdigest(), "note": "ñ"}


def test_exception_is_a_500_and_its_traceback_is_in_the_log(server: Server, client: httpx.Client) -> None:
    assert client.get("/broken").status_code == 500
    server.wait_for_log(r"w\d+ \| .*RuntimeError: raised on purpose")


@pytest.mark.parametrize("http", ["h1", "h2"])
class TestLargeWithCurl:
    def test_download(self, server: Server, certificate: Certificate, http: str, tmp_path: Path) -> None:
        target = tmp_path / "download.bin"
        answer = curl(f"{server.https_url}/download/{LARGE}", http=http, ca=certificate.certificate, output=target)
        assert (answer.status, answer.version) == (200, NAMES[http])
        assert target.stat().st_size == LARGE
        assert sha256_of(target) == sha256_of_blocks(LARGE, BLOCK)

    def test_upload(
        self, server: Server, certificate: Certificate, http: str, large_file: tuple[Path, str]
    ) -> None:
        path, checksum = large_file
        answer = curl(
            f"{server.https_url}/upload",
            *("--upload-file", path, "--header", "Content-Type: application/octet-stream"),
            http=http,
            ca=certificate.certificate,
        )
        assert (answer.status, answer.version) == (200, NAMES[http])
        assert checksum.encode() in answer.body


def test_large_download_with_httpx(client: httpx.Client) -> None:
    checksum, length = hashlib.sha256(), 0
    with client.stream("GET", f"/download/{LARGE}") as answer:
        assert answer.status_code == 200
        for block in answer.iter_bytes(1 << 20):
            checksum.update(block)
            length += len(block)
    assert length == LARGE
    assert checksum.hexdigest() == sha256_of_blocks(LARGE, BLOCK)


def test_large_upload_with_httpx(client: httpx.Client, large_file: tuple[Path, str]) -> None:
    """Sent without a length: chunked on HTTP/1.1; the application still reads it to its end."""
    path, checksum = large_file

    def blocks():
        with path.open("rb") as file:
            while block := file.read(1 << 18):
                yield block

    answer = client.post("/upload", content=blocks())
    assert answer.status_code == 200, answer.text
    assert answer.json() == {"length": LARGE, "sha256": checksum}
