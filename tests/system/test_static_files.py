"""Static files through the real program: types, ranges, conditions, and no way out of the directory."""

import email.utils
import os
import time
from pathlib import Path

import httpx
import pytest

from harness import Server
from harness.certificate import Certificate
from harness.curl import NAMES, curl
from harness.files import make_file, sha256_of
from harness.http import Background
from harness.raw import exchange

CONTENT = bytes(range(256)) * 40  # 10,240 bytes


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with files of every kind, and secrets beside it."""
    base = tmp_path_factory.mktemp("files")
    root = base / "root"
    (root / "sub").mkdir(parents=True)
    (root / "empty-directory").mkdir()
    (root / "data.bin").write_bytes(CONTENT)
    (root / "style.css").write_text("body { color: red }")
    (root / "script.js").write_text("let x = 1")
    (root / "page.html").write_text("<p>page</p>")
    (root / "picture.svg").write_text("<svg/>")
    (root / "module.wasm").write_bytes(b"\0asm")
    (root / "font.woff2").write_bytes(b"wOF2")
    (root / "empty.txt").touch()
    (root / "with space.txt").write_text("space")
    (root / "ünï.txt").write_text("unicode")
    (root / "sub" / "index.html").write_text("<p>index</p>")
    (root / ".hidden").write_text("hidden")
    (root / ".git").mkdir()
    (root / ".git" / "config").write_text("hidden")
    (base / "secret.txt").write_text("secret")
    (base / "root-sibling").mkdir()
    (base / "root-sibling" / "secret.txt").write_text("secret")
    (root / "link-out.txt").symlink_to(base / "secret.txt")
    (root / "directory-out").symlink_to(base / "root-sibling")
    (root / "link-in.txt").symlink_to("style.css")
    (root / ".well-known").mkdir()
    (root / ".well-known" / "security.txt").write_text("contact")
    os.mkfifo(root / "fifo")
    for path in root.rglob("*"):
        if path.is_file() and not path.is_symlink():
            os.utime(path, (1_700_000_000, 1_700_000_000))
    return root


@pytest.fixture(scope="module")
def server(serve_module, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Server:
    other = tmp_path_factory.mktemp("other")
    (other / "data.bin").write_bytes(b"other")
    return serve_module("plain_wsgi:app", "--static-dir", f"/files={root}", "--static-dir", f"/other/={other}")


@pytest.fixture(params=["h1", "h2"])
def client(request: pytest.FixtureRequest, server: Server, certificate: Certificate) -> httpx.Client:
    http2 = request.param == "h2"
    return httpx.Client(
        base_url=server.https_url, verify=certificate.context(), http1=not http2, http2=http2, timeout=30
    )


@pytest.mark.parametrize(
    "path,kind,length",
    [
        ("/files/data.bin", "application/octet-stream", len(CONTENT)),
        ("/files/style.css", "text/css", 19),
        ("/files/script.js", "text/javascript", 9),
        ("/files/page.html", "text/html", 11),
        ("/files/picture.svg", "image/svg+xml", 6),
        ("/files/module.wasm", "application/wasm", 4),
        ("/files/font.woff2", "font/woff2", 4),
        ("/files/empty.txt", "text/plain", 0),
        ("/files/with%20space.txt", "text/plain", 5),
        ("/files/%C3%BCn%C3%AF.txt", "text/plain", 7),
        ("/files/link-in.txt", "text/plain", 19),
        ("/other/data.bin", "application/octet-stream", 5),
    ],
)
def test_file(client: httpx.Client, path: str, kind: str, length: int) -> None:
    answer = client.get(path, headers={"accept-encoding": "identity"})
    assert answer.status_code == 200
    assert answer.headers["content-type"].split(";")[0] == kind
    assert answer.headers["content-length"] == str(length) and len(answer.content) == length
    assert answer.headers["accept-ranges"] == "bytes"
    head = client.head(path, headers={"accept-encoding": "identity"})
    assert (head.status_code, head.content) == (200, b"")
    for name in ("content-length", "content-type", "etag", "last-modified"):
        assert head.headers[name] == answer.headers[name], name


def test_query_is_ignored_and_index_is_served(client: httpx.Client) -> None:
    assert client.get("/files/style.css?v=123").text.startswith("body")
    assert client.get("/files/sub/").text == "<p>index</p>"


def test_directory_without_a_slash_is_redirected(client: httpx.Client) -> None:
    answer = client.get("/files/sub")
    assert answer.status_code in (301, 302, 307, 308)
    assert httpx.URL(answer.headers["location"]).path == "/files/sub/"


def test_directory_without_an_index_is_not_listed(client: httpx.Client) -> None:
    assert client.get("/files/empty-directory/").status_code in (403, 404)
    assert client.get("/files/").status_code in (403, 404)


@pytest.mark.parametrize(
    "field,status,start,end",
    [
        ("bytes=0-0", 206, 0, 1),
        ("bytes=0-99", 206, 0, 100),
        ("bytes=100-", 206, 100, 10240),
        ("bytes=-100", 206, 10140, 10240),
        ("bytes=-999999", 206, 0, 10240),
        ("bytes=10239-", 206, 10239, 10240),
        ("bytes=0-999999", 206, 0, 10240),
        ("bytes=10240-", 416, 0, 0),
        ("bytes=-0", 416, 0, 0),
        ("bytes=5-2", 200, 0, 10240),
        ("bytes=abc", 200, 0, 10240),
        ("lines=0-1", 200, 0, 10240),
        ("bytes=", 200, 0, 10240),
    ],
)
def test_range(client: httpx.Client, field: str, status: int, start: int, end: int) -> None:
    answer = client.get("/files/data.bin", headers={"range": field, "accept-encoding": "identity"})
    # A range that makes no sense may be ignored or refused (RFC 9110 §14.2).
    if status == 200 and answer.status_code == 416:
        return
    assert answer.status_code == status
    if status == 206:
        assert answer.content == CONTENT[start:end]
        assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/10240"
    elif status == 416:
        assert answer.headers["content-range"] == "bytes */10240"
    else:
        assert answer.content == CONTENT


def test_several_ranges_are_all_there(client: httpx.Client) -> None:
    answer = client.get("/files/data.bin", headers={"range": "bytes=0-1,100-101", "accept-encoding": "identity"})
    assert answer.status_code in (200, 206)
    if answer.status_code == 200:
        assert answer.content == CONTENT
    else:
        assert answer.headers["content-type"].startswith("multipart/byteranges")
        assert CONTENT[0:2] in answer.content and CONTENT[100:102] in answer.content


def test_very_many_ranges_do_not_multiply_the_answer(client: httpx.Client) -> None:
    field = "bytes=" + ",".join(["0-"] * 200)
    answer = client.get("/files/data.bin", headers={"range": field, "accept-encoding": "identity"})
    assert answer.status_code in (200, 206, 416)
    assert len(answer.content) < 3 * len(CONTENT)


def test_conditions(client: httpx.Client) -> None:
    first = client.get("/files/style.css")
    etag, modified = first.headers["etag"], first.headers["last-modified"]
    assert modified == email.utils.formatdate(1_700_000_000, usegmt=True)
    before = email.utils.formatdate(1_600_000_000, usegmt=True)
    after = email.utils.formatdate(time.time(), usegmt=True)
    for headers, status in [
        ({"if-none-match": etag}, 304),
        ({"if-none-match": f'"other", {etag}'}, 304),
        ({"if-none-match": "*"}, 304),
        ({"if-none-match": '"other"'}, 200),
        ({"if-modified-since": modified}, 304),
        ({"if-modified-since": after}, 304),
        ({"if-modified-since": before}, 200),
        ({"if-modified-since": "nonsense"}, 200),
        # If-None-Match wins (RFC 9110 §13.2.2).
        ({"if-none-match": '"other"', "if-modified-since": after}, 200),
        ({"if-match": etag.removeprefix("W/")}, 200 if not etag.startswith("W/") else 412),
        ({"if-match": '"other"'}, 412),
        ({"if-unmodified-since": before}, 412),
        ({"if-unmodified-since": after}, 200),
    ]:
        answer = client.get("/files/style.css", headers=headers)
        assert answer.status_code == status, headers
        if status == 304:
            assert answer.content == b"" and answer.headers["etag"] == etag


def test_if_range(client: httpx.Client) -> None:
    etag = client.get("/files/data.bin", headers={"accept-encoding": "identity"}).headers["etag"]
    part = {"range": "bytes=0-9", "accept-encoding": "identity"}
    expected = 206 if not etag.startswith("W/") else 200
    assert client.get("/files/data.bin", headers={**part, "if-range": etag}).status_code == expected
    assert client.get("/files/data.bin", headers={**part, "if-range": '"other"'}).status_code == 200


def test_changed_file_has_another_etag(client: httpx.Client, root: Path) -> None:
    path = root / "changing.txt"
    path.write_text("one")
    first = client.get(f"/files/{path.name}")
    path.write_text("three")
    second = client.get(f"/files/{path.name}", headers={"if-none-match": first.headers["etag"]})
    assert (second.status_code, second.text) == (200, "three")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_other_methods_are_not_allowed(client: httpx.Client, method: str) -> None:
    answer = client.request(method, "/files/style.css", content=b"x")
    assert answer.status_code == 405
    assert {"GET", "HEAD"} <= {allowed.strip() for allowed in answer.headers["allow"].split(",")}


@pytest.mark.parametrize("path", ["/files/nothing.css", "/files/style.css/", "/files/style.css/more", "/files/STYLE.CSS"])
def test_missing_file_is_404_and_never_reaches_the_application(client: httpx.Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert answer.text != "no such route"


def test_prefix_ends_at_a_segment(client: httpx.Client) -> None:
    """`/files` is a directory, `/filesystem` belongs to the application."""
    assert client.get("/filesystem").text == "no such route"


@pytest.mark.parametrize("name", ["/files/.hidden", "/files/.git/config"])
def test_hidden_files_stay_hidden(client: httpx.Client, name: str) -> None:
    assert client.get(name).status_code in (403, 404)
    # But for the one that RFC 8615 wants to be seen.
    assert client.get("/files/.well-known/security.txt").text == "contact"


ESCAPES = [
    "/files/../secret.txt",
    "/files/%2e%2e/secret.txt",
    "/files/..%2fsecret.txt",
    "/files/%2e%2e%2fsecret.txt",
    "/files/..%5csecret.txt",
    "/files/..\\secret.txt",
    "/files/sub/../../secret.txt",
    "/files/sub/..%2f..%2fsecret.txt",
    "/files//etc/passwd",
    "/files/%2fetc/passwd",
    "/files/%2fetc%2fpasswd",
    "/files/./../secret.txt",
    "/files/.../secret.txt",
    "/files/%252e%252e/secret.txt",
    "/files/%c0%ae%c0%ae/secret.txt",
    "/files/..;/secret.txt",
    "/files-sibling/secret.txt",
    "/files/link-out.txt",
    "/files/directory-out/secret.txt",
    "/files/data.bin%00.txt",
    "/files/fifo",
    "/../secret.txt",
    "/files/../../../../../../etc/passwd",
]


@pytest.mark.parametrize("path", ESCAPES)
def test_no_way_out_of_the_directory(server: Server, path: str) -> None:
    """Sent over a bare socket: every polite client would resolve the dots before the program sees them."""
    answer = exchange(server.url, f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert answer.status in (400, 403, 404), answer
    assert answer.body != b"secret" and b"root:" not in answer.body


@pytest.mark.parametrize("http", ["h1", "h2"])
def test_large_file(
    server: Server, certificate: Certificate, root: Path, http: str, tmp_path: Path
) -> None:
    source, target = root / f"large-{http}.bin", tmp_path / "large.bin"
    checksum = make_file(source, 300_000_000)
    answer = curl(f"{server.https_url}/files/{source.name}", http=http, ca=certificate.certificate, output=target)
    assert (answer.status, answer.version) == (200, NAMES[http])
    assert sha256_of(target) == checksum
    # A download that is taken up again at the end.
    with source.open("rb") as file:
        file.seek(-1000, 2)
        tail = file.read()
    part = curl(f"{server.url}/files/{source.name}", "--range", "-1000")
    assert (part.status, part.body) == (206, tail)
    source.unlink()


def test_static_files_need_no_worker(root: Path, tmp_path: Path) -> None:
    """All workers busy: files are served all the same."""
    with (
        Server("plain_wsgi:app", "--static-dir", root, workers=1) as server,
        Background(server.url) as background,
    ):
        held = background.get("/hold", params={"record": str(tmp_path)})
        assert httpx.get(f"{server.url}/static/style.css", timeout=20).status_code == 200
        (tmp_path / "release").touch()
        assert held.result(60).text == "held"


def test_mount_at_the_root_leaves_the_rest_to_the_application(root: Path) -> None:
    with Server("plain_wsgi:app", "--static-dir", f"/={root}") as server:
        assert httpx.get(f"{server.url}/style.css").text.startswith("body")
        assert httpx.get(f"{server.url}/pid").text.isdigit()
        assert httpx.post(f"{server.url}/echo", content=b"body").content == b"body"
