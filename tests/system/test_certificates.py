"""Certificates change on a running server: whoever writes them, however, and nobody notices."""

import json
import os
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness import Server, eventually
from harness.certificate import Certificate, make_certificate
from harness.load import Load
from harness.raw import RawConnection
from harness.server import PROGRAM


class Site:
    """A place where certificates for one name are put, by somebody with habits of his own."""

    def __init__(self, root: Path, name: str, layout: str) -> None:
        self.name, self.layout, self.version = name, layout, 0
        self.root = root / layout
        self.made = root / f"made-{layout}"
        self.root.mkdir(parents=True)
        self.made.mkdir()
        self.now = self.renew()

    @property
    def flags(self) -> list[str]:
        return ["--tls-cert", str(self.root / "site.pem"), "--tls-key", str(self.root / "site.key")]

    def renew(self) -> str:
        """Puts a new certificate in place; the result is what clients are to see."""
        self.version += 1
        fresh = make_certificate(self.made, self.name)
        getattr(self, f"_{self.layout}")(fresh)
        self.now = fresh.certificate.read_text()
        return self.now

    def _files(self, fresh: Certificate) -> None:
        # In place: for a moment there is half a file.
        (self.root / "site.pem").write_bytes(fresh.certificate.read_bytes())
        (self.root / "site.key").write_bytes(fresh.key.read_bytes())

    def _certbot(self, fresh: Certificate) -> None:
        archive = self.root.parent / "archive"
        archive.mkdir(exist_ok=True)
        for name, source in (("site.pem", fresh.certificate), ("site.key", fresh.key)):
            (archive / f"{name}.{self.version}").write_bytes(source.read_bytes())
            (self.root / name).unlink(missing_ok=True)
            (self.root / name).symlink_to(f"../archive/{name}.{self.version}")

    def _kubernetes(self, fresh: Certificate) -> None:
        data = self.root / f"..{self.version}"
        data.mkdir()
        (data / "site.pem").write_bytes(fresh.certificate.read_bytes())
        (data / "site.key").write_bytes(fresh.key.read_bytes())
        (self.root / "..data_tmp").symlink_to(data.name)
        (self.root / "..data_tmp").rename(self.root / "..data")
        for name in ("site.pem", "site.key"):
            if not (self.root / name).is_symlink():
                (self.root / name).symlink_to(f"..data/{name}")


SITES = {"files": "localhost", "certbot": "certbot.test", "kubernetes": "kubernetes.test"}


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Site]:
    root = tmp_path_factory.mktemp("sites")
    return {layout: Site(root, name, layout) for layout, name in SITES.items()}


@pytest.fixture(scope="module")
def server(sites: dict[str, Site], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    control = tmp_path_factory.mktemp("control") / "control.sock"
    flags = [flag for site in sites.values() for flag in site.flags]
    with Server("plain_wsgi:app", *flags, "--control-socket", control, "--hsts", binds=["https://127.0.0.1:0"]) as server:
        server.control = control
        yield server


def anybody() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def shown(server: Server, name: str) -> str:
    """The certificate that a new client gets."""
    with socket.create_connection(("127.0.0.1", server.port("https"))) as plain:
        with anybody().wrap_socket(plain, server_hostname=name) as secure:
            return ssl.DER_cert_to_PEM_cert(secure.getpeercert(binary_form=True))


def told(server: Server, pattern: str) -> Callable[[], bool]:
    """Whether a line was written after this call that has it."""
    before = len(server.log())
    return lambda: pattern in server.log()[before:]


@pytest.mark.parametrize("layout", SITES)
def test_a_new_certificate_is_used_and_nobody_fails(server: Server, sites: dict[str, Site], layout: str) -> None:
    site = sites[layout]
    assert shown(server, site.name) == site.now
    with Load([f"https://localhost:{server.port('https')}"], tls=anybody()) as load:
        for _ in range(2):
            is_told = told(server, f"new certificate for {site.name} from {site.root}/site.pem, valid until 2")
            expected = site.renew()
            eventually(is_told, "the new certificate")
            assert shown(server, site.name) == expected
            load.goes_on()
    load.expect_only(200)
    assert {other.name: shown(server, other.name) for other in sites.values()} == {
        other.name: other.now for other in sites.values()
    }


def test_what_cannot_be_used_changes_nothing(server: Server, sites: dict[str, Site]) -> None:
    site = sites["files"]
    certificate, key = site.root / "site.pem", site.root / "site.key"
    good = certificate.read_text(), key.read_text()
    fresh = make_certificate(site.made, site.name)
    for path, text, complaint in (
        (certificate, good[0][: len(good[0]) // 2], "is broken: its end is missing"),
        (certificate, fresh.certificate.read_text(), "does not belong to the certificate"),
    ):
        is_told = told(server, f"the certificate for {site.name} stays the one that is valid until ")
        path.write_text(text)
        eventually(is_told, "a warning")
        assert complaint in server.log(), server.log()
        assert shown(server, site.name) == good[0]
    # The key follows: now they fit.
    is_told = told(server, f"new certificate for {site.name}")
    key.write_text(fresh.key.read_text())
    eventually(is_told, "the new certificate")
    assert shown(server, site.name) == fresh.certificate.read_text()
    # Touched, or written again as it was: nothing to tell.
    before = server.log()
    certificate.write_text(fresh.certificate.read_text())
    is_told = told(server, "new certificate for certbot.test")
    sites["certbot"].renew()
    eventually(is_told, "another one, later")
    assert server.log()[len(before) :].count("certificate") == 1, server.log()[len(before) :]


def test_the_status_names_them(server: Server, sites: dict[str, Site]) -> None:
    def status(*flags: str) -> str:
        command = [str(PROGRAM), "status", "--control", str(server.control), *flags]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout

    certificates = json.loads(status("--json"))["certificates"]
    assert [(one["names"], one["file"]) for one in certificates] == [
        (site.name, f"{site.root}/site.pem") for site in sites.values()
    ]
    assert all(one["not_after"].endswith("Z") for one in certificates)
    assert f"certificate for certbot.test until {certificates[1]['not_after']} (" in status()


def test_hup_uses_it_at_once_and_sessions_are_resumed(server: Server, sites: dict[str, Site]) -> None:
    site = sites["certbot"]
    context = anybody()

    def resumed(session: ssl.SSLSession | None) -> tuple[bool, ssl.SSLSession]:
        with socket.create_connection(("127.0.0.1", server.port("https"))) as plain:
            with context.wrap_socket(plain, server_hostname=site.name, session=session) as secure:
                secure.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                while secure.recv(4096):
                    pass
                return secure.session_reused, secure.session

    is_new, session = resumed(None)
    assert not is_new
    expected = site.renew()
    before = server.log().count("reload: generation")
    os.kill(server.pid, 1)
    eventually(lambda: server.log().count("reload: generation") > before and "serves" in server.log(), "a reload")
    eventually(lambda: shown(server, site.name) == expected, "the new certificate")
    assert resumed(session)[0]


def test_a_host_of_another_certificate_is_misdirected(server: Server, sites: dict[str, Site]) -> None:
    def status(name: str | None, host: str) -> int:
        with RawConnection(server.https_url, tls=anybody(), name=name) as connection:
            connection.send(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")
            answer = connection.response()
            assert answer.header("strict-transport-security") == "max-age=31536000"
            return answer.status

    assert status("certbot.test", "certbot.test:8443") == 200
    assert status("certbot.test", "kubernetes.test") == 421
    assert status("certbot.test", "unknown.test") == 200
    assert status("unknown.test", "localhost") == 200
    assert status("unknown.test", "kubernetes.test") == 421
