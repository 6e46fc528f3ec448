"""PEP 3333 through the real program: every application runs under `wsgiref.validate`."""


import httpx
import pytest

from harness import Server, eventually
from harness.certificate import Certificate
from harness.raw import exchange


@pytest.fixture(scope="module", params=[("1",), ("3",)], ids=["one-thread", "three-threads"])
def server(request: pytest.FixtureRequest, serve_module) -> Server:
    return serve_module("validated_wsgi:app", "--threads", request.param[0])


@pytest.fixture(params=["h1", "h2"])
def client(request: pytest.FixtureRequest, server: Server, certificate: Certificate) -> httpx.Client:
    http2 = request.param == "h2"
    return httpx.Client(
        base_url=server.https_url, verify=certificate.context(), http1=not http2, http2=http2, timeout=30
    )


@pytest.mark.parametrize(
    "path,status,body",
    [
        ("/plain", 200, "plain"),
        ("/generator", 200, "one two three"),
        ("/late-start", 201, "late"),
        ("/writes", 200, "written before returned"),
        ("/empty", 200, ""),
        ("/no-content", 204, ""),
        ("/not-modified", 304, ""),
        ("/closing", 200, "closing"),
        ("/replaces", 500, "replaced"),
    ],
)
def test_answers(client: httpx.Client, server: Server, path: str, status: int, body: str) -> None:
    for method in ("GET", "HEAD"):
        answer = client.request(method, path)
        assert (answer.status_code, answer.text) == (status, body if method == "GET" else ""), server.log()
    assert "x-first" not in answer.headers
    assert "AssertionError" not in server.log()


BODY = b"abcde\r\nsecond line\nthird\n\nfifth without end"


def test_every_way_to_read_the_body(client: httpx.Client, server: Server) -> None:
    for content in (BODY, iter([BODY[:7], BODY[7:20], BODY[20:]])):
        answer = client.post("/reads", content=content)
        assert answer.status_code == 200, server.log()
        assert answer.json() == ["abc", "de\r\n", "second line\n", "third\n", "\n", "fifth without end", ""]
        lines = client.post("/iterates", content=BODY).json()
        assert "".join(lines).encode() == BODY and len(lines) == 5


def test_close_is_called_also_after_a_failure(server: Server) -> None:
    before = server.log().count("| closed")
    assert httpx.get(f"{server.url}/closing").text == "closing"
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.get(f"{server.url}/closing-after-failure")
    assert httpx.head(f"{server.url}/closing").status_code == 200
    server.wait_for_log(r"iteration failed on purpose")
    eventually(lambda: server.log().count("| closed") == before + 3, "three calls of close()")


def test_environ(server: Server, certificate: Certificate) -> None:
    context = certificate.context()
    answer = httpx.get(
        f"{server.https_url}/p%C3%A4th/a%2Fb?q=%C3%A4&x", headers={"X-Latin": "ä".encode("latin-1")}, verify=context
    )
    environ = answer.json()
    assert environ["REQUEST_METHOD"] == "GET"
    assert environ["SCRIPT_NAME"] == ""
    # Bytes as latin-1 code points (PEP 3333, "Unicode Issues").
    assert environ["PATH_INFO"].encode("latin-1").decode() == "/päth/a/b"
    assert environ["QUERY_STRING"] == "q=%C3%A4&x"
    assert environ["HTTP_X_LATIN"] == "ä"
    assert environ["SERVER_PROTOCOL"] == "HTTP/1.1"
    assert environ["wsgi.version"] == [1, 0]
    assert environ["wsgi.url_scheme"] == "https"
    assert environ["wsgi.run_once"] is False
    assert environ["REMOTE_ADDR"] == "127.0.0.1"
    assert environ["SERVER_PORT"] == str(server.port("https"))
    assert environ["HTTP_HOST"] == f"127.0.0.1:{server.port('https')}"
    assert "HTTP_CONTENT_TYPE" not in environ and "HTTP_CONTENT_LENGTH" not in environ
    assert httpx.get(f"{server.url}/").json()["wsgi.url_scheme"] == "http"


def test_environ_of_a_post(server: Server) -> None:
    environ = httpx.post(f"{server.url}/", content=b"12345", headers={"content-type": "text/x-test"}).json()
    assert (environ["CONTENT_LENGTH"], environ["CONTENT_TYPE"]) == ("5", "text/x-test")


def test_forwarded_headers_of_strangers_change_nothing(server: Server) -> None:
    """Nobody is trusted by default: the client's address and the scheme are those of the connection."""
    headers = {"x-forwarded-for": "9.9.9.9", "x-forwarded-proto": "https", "forwarded": "for=9.9.9.9;proto=https"}
    environ = httpx.get(f"{server.url}/", headers=headers).json()
    assert (environ["REMOTE_ADDR"], environ["wsgi.url_scheme"]) == ("127.0.0.1", "http")


def test_proxy_header_is_not_passed(server: Server) -> None:
    """CVE-2016-5385: HTTP_PROXY would be taken for configuration by CGI-like code."""
    environ = httpx.get(f"{server.url}/", headers={"proxy": "http://evil.test"}).json()
    assert "HTTP_PROXY" not in environ


def test_repeated_headers_of_the_answer() -> None:
    with Server("plain_wsgi:app") as server:
        answer = exchange(server.url, "GET /cookies HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert answer.all("set-cookie") == ["a=1", "b=2"]
        assert answer.all("x-repeated") == ["1", "2"]


def test_file_wrapper(tmp_path) -> None:
    file = tmp_path / "file"
    content = bytes(range(256)) * 20_000
    file.write_bytes(content)
    with Server("plain_wsgi:app") as server:
        for offset in (0, 1, 4096, len(content) - 1, len(content)):
            answer = httpx.get(f"{server.url}/file", params={"path": str(file), "offset": offset}, timeout=30)
            assert (answer.status_code, answer.content == content[offset:]) == (200, True), offset
        assert httpx.head(f"{server.url}/file", params={"path": str(file)}).headers["content-length"] == str(len(content))


def test_stream_is_sent_as_it_is_made(tmp_path) -> None:
    """A part is made only after the client has seen the one before."""
    with Server("plain_wsgi:app") as server, httpx.Client(base_url=server.url, timeout=30) as client:
        with client.stream("GET", "/steps", params={"record": str(tmp_path), "count": 5}) as answer:
            seen = []
            for line in answer.iter_lines():
                seen.append(line)
                (tmp_path / f"release-{len(seen)}").touch()
        assert seen == [f"part {number}" for number in range(5)]
