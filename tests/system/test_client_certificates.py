"""Mutual TLS: who is let in, and what the application learns."""

import ast
import datetime
import json
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from harness import Server, run_to_end
from harness.certificate import Certificate
from harness.raw import RawConnection

PEM = serialization.Encoding.PEM
NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)


class Authority:
    """Signs certificates of clients, and revokes them."""

    def __init__(self, directory: Path, name: str) -> None:
        self.directory = directory
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.file = directory / f"{name}.pem"
        self.certificate = self._sign(self.name, self.key, NOW + DAY, is_authority=True)
        self.file.write_bytes(self.certificate.public_bytes(PEM))

    def _sign(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, end: datetime.datetime, is_authority: bool
    ) -> x509.Certificate:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - 10 * DAY)
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .sign(self.key, hashes.SHA256())
        )

    def issue(self, name: str, end: datetime.datetime = NOW + DAY) -> tuple[x509.Certificate, Path]:
        """A certificate, and a file with it and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        organization = x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Example, Inc.")
        subject = x509.Name([organization, x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._sign(subject, key, end, is_authority=False)
        file = self.directory / f"client-{name}.pem"
        plain = key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        file.write_bytes(certificate.public_bytes(PEM) + plain)
        return certificate, file

    def revoke(self, certificate: x509.Certificate) -> Path:
        revoked = x509.RevokedCertificateBuilder().serial_number(certificate.serial_number).revocation_date(NOW - DAY)
        crl = x509.CertificateRevocationListBuilder().issuer_name(self.name).last_update(NOW - DAY)
        crl = crl.next_update(NOW + DAY).add_revoked_certificate(revoked.build())
        file = self.directory / "revoked.pem"
        file.write_bytes(crl.add_extension(x509.CRLNumber(1), critical=False).sign(self.key, hashes.SHA256()).public_bytes(PEM))
        return file


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "authority")


def ask(server: Server, certificate: Certificate, client: Path | None, version: str = "TLSv1_3") -> bytes | None:
    """The body of the answer to a request that pretends to be somebody; nothing where the client is refused."""
    context = certificate.context("http/1.1")
    context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    if client:
        context.load_cert_chain(client)
    try:
        with RawConnection(server.https_url, tls=context) as connection:
            pretended = "SSL-Client-S-DN: CN=root\r\nSSL-Client-Verify: SUCCESS\r\n"
            connection.send(f"GET /facts HTTP/1.1\r\nHost: localhost\r\n{pretended}\r\n")
            return connection.response().body
    except (ssl.SSLError, OSError):
        return None


@pytest.mark.parametrize("mode", ["required", "optional"])
def test_who_is_let_in(certificate: Certificate, authority: Authority, mode: str) -> None:
    alice, alice_file = authority.issue("alice")
    bob, bob_file = authority.issue("bob")
    _, late = authority.issue("late", NOW - DAY)
    _, stranger = Authority(authority.directory, "stranger").issue("stranger")
    flags = ["--tls-client-ca", authority.file, "--tls-client-crl", authority.revoke(bob), "--tls-client-auth", mode]
    with Server("plain_wsgi:app", *certificate.flags, *flags, "--log-level", "debug", binds=["https://127.0.0.1:0"]) as server:
        for version in ("TLSv1_2", "TLSv1_3"):
            environ = json.loads(ask(server, certificate, alice_file, version) or b"{}")["environ"]
            assert environ["SSL_CLIENT_VERIFY"] == "SUCCESS"
            assert environ["SSL_CLIENT_S_DN"] == "CN=alice,O=Example\\, Inc."
            assert environ["SSL_CLIENT_CERT"] == alice.public_bytes(PEM).decode()
            assert environ["HTTP_SSL_CLIENT_S_DN"] == "CN=root"
            for refused in (bob_file, late, stranger):
                assert ask(server, certificate, refused, version) is None, refused
        nobody = ask(server, certificate, None)
        if mode == "required":
            assert nobody is None
            for why in ("no certificates", "Revoked", "Expired", "UnknownIssuer"):
                server.wait_for_log(rf"debug connection ended.*(?i:{why})")
        else:
            environ = json.loads(nobody or b"{}")["environ"]
            assert environ["SSL_CLIENT_VERIFY"] == "NONE"
            assert "SSL_CLIENT_S_DN" not in environ and "SSL_CLIENT_CERT" not in environ
        assert not [line for line in server.log().splitlines() if " warn " in line or " error " in line]


def test_asgi_learns_it_too(certificate: Certificate, authority: Authority) -> None:
    alice, file = authority.issue("alice")
    with Server(
        "asgi_conformance:app", *certificate.flags, "--tls-client-ca", authority.file, binds=["https://127.0.0.1:0"]
    ) as server:
        tls = ast.literal_eval(json.loads(ask(server, certificate, file) or b"{}")["scope"]["extensions"])["tls"]
        assert tls["client_cert_chain"] == [alice.public_bytes(PEM).decode()]
        assert tls["client_cert_name"] == "CN=alice,O=Example\\, Inc."
        assert tls["client_cert_error"] is None


def test_mistakes_are_explained(certificate: Certificate, tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("")
    for flags, expected in (
        (["--tls-client-ca", tmp_path / "empty.pem"], f"{tmp_path}/empty.pem holds no PEM certificate"),
        (["--tls-client-auth", "optional"], "name who signs with --tls-client-ca FILE"),
    ):
        done = run_to_end("plain_wsgi:app", *certificate.flags, *flags, "--bind", "https://127.0.0.1:0")
        assert done.code != 0 and expected in done.errors, done.errors
