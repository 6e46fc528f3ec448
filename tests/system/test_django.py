"""A real Django site: admin, static files collected and served by the program, CSRF, a 50 MB upload."""

import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from harness import Server
from harness.certificate import Certificate
from harness.curl import curl
from harness.files import make_file, sha256_of
from harness.server import APPS

SITE = APPS / "django_site"
UPLOAD_BYTES = 50_000_000


@dataclass(frozen=True)
class Site:
    server: Server
    data: Path
    certificate: Certificate

    def client(self, http2: bool) -> httpx.Client:
        return httpx.Client(
            base_url=self.server.https_url,
            verify=self.certificate.context(),
            http1=not http2,
            http2=http2,
            timeout=120,
            headers={"referer": self.server.https_url + "/"},
        )


def manage(data: Path, *arguments: str, **variables: str) -> None:
    environment = {**os.environ, "SITE_DATA": str(data), **variables}
    done = subprocess.run(
        [sys.executable, "manage.py", *arguments], cwd=SITE, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module", params=["wsgi", "asgi"])
def site(
    request: pytest.FixtureRequest,
    serve_module: Callable[..., Server],
    certificate: Certificate,
    tmp_path_factory: pytest.TempPathFactory,
) -> Site:
    data = tmp_path_factory.mktemp(f"django-{request.param}")
    manage(data, "migrate", "--verbosity=0")
    manage(data, "collectstatic", "--no-input", "--verbosity=0")
    manage(
        data,
        "createsuperuser",
        "--no-input",
        "--username=root",
        "--email=root@example.test",
        DJANGO_SUPERUSER_PASSWORD="a long password",
    )
    server = serve_module(
        f"site_project.{request.param}:application",
        *("--static-dir", f"/static/={data / 'static'}"),
        *("--max-body", "100MB"),
        *("--env", f"SITE_DATA={data}"),
        *("--env", "SITE_SECURE=1"),
        cwd=SITE,
        workers=2,
    )
    return Site(server, data, certificate)


both_versions = pytest.mark.parametrize("http2", [False, True], ids=["h1", "h2"])


def log_in(client: httpx.Client) -> None:
    page = client.get("/admin/login/?next=/admin/")
    assert page.status_code == 200
    answer = client.post(
        "/admin/login/?next=/admin/",
        data={
            "csrfmiddlewaretoken": client.cookies["csrftoken"],
            "username": "root",
            "password": "a long password",
            "next": "/admin/",
        },
    )
    assert answer.status_code == 302, answer.text
    assert answer.headers["location"] == "/admin/"


@both_versions
def test_log_in_to_the_admin(site: Site, http2: bool) -> None:
    with site.client(http2) as client:
        log_in(client)
        page = client.get("/admin/")
        assert page.status_code == 200
        assert page.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
        assert "Site administration" in page.text
        assert client.get("/admin/documents/document/").status_code == 200


@both_versions
def test_a_form_without_csrf_token_is_refused_by_django(site: Site, http2: bool) -> None:
    with site.client(http2) as client:
        assert client.post("/upload", data={"title": "no token"}).status_code == 403


@both_versions
def test_every_static_file_of_the_admin_page(site: Site, http2: bool) -> None:
    with site.client(http2) as client:
        log_in(client)
        page = client.get("/admin/").text
        links = set(re.findall(r'(?:href|src)="(/static/[^"]+)"', page))
        assert len(links) >= 4, page
        for link in links:
            answer = client.get(link)
            assert answer.status_code == 200, link
            assert answer.content == (site.data / "static" / link.removeprefix("/static/")).read_bytes()
            assert answer.headers["content-type"].split(";")[0] in ("text/css", "text/javascript", "application/javascript")
            assert client.get(link, headers={"if-none-match": answer.headers["etag"]}).status_code == 304


@both_versions
def test_upload_of_50_megabytes_and_its_download(site: Site, http2: bool, tmp_path: Path) -> None:
    source = tmp_path / "upload.bin"
    checksum = make_file(source, UPLOAD_BYTES)
    with site.client(http2) as client, source.open("rb") as file:
        client.get("/")
        answer = client.post(
            "/upload",
            data={"title": "large", "csrfmiddlewaretoken": client.cookies["csrftoken"]},
            files={"file": ("large.bin", file)},
        )
        assert answer.status_code == 200, answer.text
        assert answer.json()["length"] == UPLOAD_BYTES
        assert answer.json()["sha256"] == checksum

        received = hashlib.sha256()
        with client.stream("GET", f"/documents/{answer.json()['key']}") as download:
            assert download.status_code == 200
            assert download.headers["content-length"] == str(UPLOAD_BYTES)
            for block in download.iter_bytes():
                received.update(block)
        assert received.hexdigest() == checksum


@pytest.mark.parametrize("http", ["h1", "h2"])
def test_upload_of_50_megabytes_with_curl(site: Site, http: str, tmp_path: Path) -> None:
    source, target, cookies = tmp_path / "upload.bin", tmp_path / "download.bin", tmp_path / "cookies"
    checksum = make_file(source, UPLOAD_BYTES)
    base, ca = site.server.https_url, site.certificate.certificate
    page = curl(base + "/", "--cookie-jar", cookies, http=http, ca=ca)
    found = re.search(rb'name="csrfmiddlewaretoken" value="([^"]+)"', page.body)
    assert found, page.body
    answer = curl(
        base + "/upload",
        *("--cookie", cookies, "--referer", base + "/"),
        *("--form", f"csrfmiddlewaretoken={found[1].decode()}", "--form", "title=curl", "--form", f"file=@{source}"),
        http=http,
        ca=ca,
    )
    assert (answer.status, answer.version) == (200, {"h1": "1.1", "h2": "2"}[http]), answer.body
    assert checksum.encode() in answer.body
    key = int(re.search(rb'"key": (\d+)', answer.body)[1])  # type: ignore[index]
    assert curl(f"{base}/documents/{key}", http=http, ca=ca, output=target).status == 200
    assert sha256_of(target) == checksum


@both_versions
def test_what_django_sees_of_the_client(site: Site, http2: bool) -> None:
    """Scheme, host and address are right without a proxy header or a setting that trusts one."""
    with site.client(http2) as client:
        facts = client.get("/facts?x=1").json()
    assert facts["secure"] is True
    assert facts["client"] == "127.0.0.1"
    assert facts["url"] == f"{site.server.https_url}/facts?x=1"


@both_versions
def test_streamed_answer_and_an_exception(site: Site, http2: bool) -> None:
    with site.client(http2) as client:
        assert client.get("/stream").text == "".join(f"line {number}\n" for number in range(1000))
        assert client.get("/broken").status_code == 500
        assert client.get("/").status_code == 200
