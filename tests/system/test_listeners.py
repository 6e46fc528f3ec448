"""Where the program listens: TCP, TLS, Unix sockets, several at once, and the redirect to HTTPS."""

import json
import os
import socket
import ssl
import stat
from pathlib import Path

import httpx
import pytest

from harness import Server
from harness.certificate import Certificate
from harness.raw import RawConnection, exchange


def test_several_binds_serve_the_same_application(certificate: Certificate) -> None:
    binds = ["127.0.0.1:0", "https://127.0.0.1:0", "unix:{directory}/app.sock", "http://127.0.0.1:0"]
    with Server("plain_wsgi:app", *certificate.flags, binds=binds) as server:
        assert len(server.listeners) == 4, server.listeners
        for address in server.listeners:
            if address.startswith("unix:"):
                transport = httpx.HTTPTransport(uds=address.removeprefix("unix:"))
                with httpx.Client(transport=transport, base_url="http://localhost") as client:
                    assert client.get("/").text == "hello"
            else:
                assert httpx.get(address, verify=certificate.context()).text == "hello", address


def test_ipv6() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    with Server("plain_wsgi:app", binds=["http://[::1]:0"]) as server:
        facts = httpx.get(f"{server.url}/facts").json()["environ"]
        assert facts["REMOTE_ADDR"] == "::1"


def test_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    with Server("plain_wsgi:app", binds=[f"unix:{path}"]) as server:
        assert stat.S_ISSOCK(path.stat().st_mode)
        answer = exchange(f"unix:{path}", "GET /facts HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        environ = json.loads(answer.body)["environ"]
        assert isinstance(environ["REMOTE_ADDR"], str)
        assert environ["SERVER_NAME"] and isinstance(environ["SERVER_PORT"], str)
        server.stop()
    assert not path.exists(), "the socket file is left behind"


def test_stale_unix_socket_is_replaced(tmp_path: Path) -> None:
    """A file of a server that was killed must not keep the next one from starting."""
    path = tmp_path / "app.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    with Server("plain_wsgi:app", binds=[f"unix:{path}"]):
        answer = exchange(f"unix:{path}", "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert answer.body == b"hello"


def test_tls_versions_and_protocols(certificate: Certificate) -> None:
    with Server("plain_wsgi:app", *certificate.flags, binds=["https://127.0.0.1:0"]) as server:
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            for offered, chosen in ((["h2", "http/1.1"], "h2"), (["http/1.1"], "http/1.1"), ([], None)):
                context = certificate.context(*offered)
                context.minimum_version = context.maximum_version = version
                with socket.create_connection(("127.0.0.1", server.port("https"))) as plain:
                    with context.wrap_socket(plain, server_hostname="localhost") as secure:
                        assert secure.selected_alpn_protocol() == chosen
                        assert secure.version() == {ssl.TLSVersion.TLSv1_2: "TLSv1.2", ssl.TLSVersion.TLSv1_3: "TLSv1.3"}[version]


def test_old_tls_is_refused(certificate: Certificate) -> None:
    with Server("plain_wsgi:app", *certificate.flags, binds=["https://127.0.0.1:0"]) as server:
        context = certificate.context()
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
        context.set_ciphers("ALL:@SECLEVEL=0")
        with socket.create_connection(("127.0.0.1", server.port("https"))) as plain, pytest.raises((ssl.SSLError, OSError)):
            context.wrap_socket(plain, server_hostname="localhost")


def test_several_certificates_by_name(certificate: Certificate, other_certificate: Certificate) -> None:
    """SNI: each name gets its certificate, an unknown one the first."""
    with Server("plain_wsgi:app", *certificate.flags, *other_certificate.flags, binds=["https://127.0.0.1:0"]) as server:
        for expected, name in ((certificate, "localhost"), (other_certificate, "other.test")):
            with RawConnection(server.https_url, tls=expected.context("http/1.1"), name=name) as connection:
                connection.send(f"GET / HTTP/1.1\r\nHost: {name}\r\n\r\n")
                assert connection.response().body == b"hello"
        with pytest.raises(ssl.SSLCertVerificationError):
            RawConnection(server.https_url, tls=other_certificate.context(), name="localhost")


def test_plain_http_on_the_tls_port_gets_no_answer_from_the_application(certificate: Certificate) -> None:
    with Server("plain_wsgi:app", *certificate.flags, binds=["https://127.0.0.1:0"]) as server:
        with RawConnection(server.https_url) as connection:
            connection.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b"hello" not in connection.rest()
        with httpx.Client(base_url=server.https_url, verify=certificate.context()) as client:
            assert client.get("/").text == "hello"


def test_redirect_to_https(certificate: Certificate) -> None:
    with Server(
        "plain_wsgi:app",
        *certificate.flags,
        *("--redirect-http", "127.0.0.1:0"),
        binds=["https://127.0.0.1:0"],
    ) as server:
        with httpx.Client(base_url=server.url, verify=certificate.context()) as client:
            answer = client.get("/facts?a=1&b=%2F")
            assert answer.status_code in (301, 308)
            assert answer.headers["location"] == f"{server.https_url}/facts?a=1&b=%2F"
            assert client.post("/echo", content=b"x").status_code in (307, 308)
            assert client.get("/", follow_redirects=True).text == "hello"
        # A location made of an unchecked Host would send users elsewhere.
        evil = exchange(server.url, "GET / HTTP/1.1\r\nHost: a@evil.test\r\nConnection: close\r\n\r\n")
        assert evil.status == 400


def test_development_certificate(tmp_path: Path) -> None:
    """`--dev-cert` makes a certificate once and uses it again."""
    environment = {"PYTHONPATH": str(Path(__file__).parent / "apps")}
    arguments = ("--dev-cert",)
    with Server("plain_wsgi:app", *arguments, binds=["https://127.0.0.1:0"], cwd=tmp_path, env=environment) as server:
        made = tmp_path / "certs" / "localhost.pem"
        first = made.read_bytes()
        keys = [path for path in made.parent.iterdir() if b"PRIVATE KEY" in path.read_bytes()]
        assert keys and all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in keys)
        authority = Path(os.environ["XDG_DATA_HOME"]) / "monoceros" / "authority" / "authority.pem"
        context = ssl.create_default_context(cafile=authority)
        assert httpx.get(server.https_url.replace("127.0.0.1", "localhost"), verify=context).text == "hello"
        assert httpx.get(server.https_url, verify=context).text == "hello"
    with Server("plain_wsgi:app", *arguments, binds=["https://127.0.0.1:0"], cwd=tmp_path, env=environment):
        assert made.read_bytes() == first


def test_the_port_is_free_at_once_after_a_stop() -> None:
    with Server("plain_wsgi:app") as first:
        port = first.port()
        httpx.get(first.url)
        first.stop()
    with Server("plain_wsgi:app", binds=[f"127.0.0.1:{port}"]) as second:
        assert httpx.get(second.url).text == "hello"
