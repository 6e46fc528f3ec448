"""What somebody meets who tries the program: certificates, factories, and files of another user."""

import os
import ssl
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from harness import Server, run_to_end
from harness.certificate import Certificate, make_certificate
from harness.server import PROGRAM

NOBODY = 65534

FACTORY = """\
def create_app(name, *, greeting="hello"):
    def app(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [f"{greeting} {name}".encode()]
    return app
"""


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that everybody may enter, which pytest's own are not."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


def as_nobody(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs the program as a user who may do nothing."""
    if os.geteuid() != 0:
        pytest.skip("only root can start the program as somebody else")
    try:
        return subprocess.run(
            [str(PROGRAM), *map(str, arguments)],
            cwd="/",
            env={},
            user=NOBODY,
            group=NOBODY,
            extra_groups=[],
            capture_output=True,
            text=True,
            timeout=60,
        )
    except PermissionError:
        pytest.skip(f"another user may not run {PROGRAM}")


def test_a_directory_of_somebody_else_is_not_said_to_be_missing(open_directory: Path) -> None:
    closed = open_directory / "closed"
    closed.mkdir(mode=0o700)
    certificate = make_certificate(closed, "example.test")
    (open_directory / "key.pem").touch(mode=0o600)
    finished = as_nobody(
        *("monoceros.welcome", "--tls-cert", certificate.certificate, "--tls-key", open_directory / "key.pem"),
        *("--chdir", closed, "--static-dir", closed / "static"),
    )
    assert finished.returncode == 2, finished.stderr
    expected = [
        f"tls-cert: permission denied for {certificate.certificate}: user nobody may not enter {closed}",
        f"tls-key: permission denied for {open_directory}/key.pem: user nobody may not read it",
        f"chdir: permission denied for {closed}: user nobody may not enter it",
        f"static-dir: permission denied for {closed}/static: user nobody may not enter {closed}",
    ]
    for line in expected:
        assert f"error: {line}\n" in finished.stderr, finished.stderr


def test_an_interpreter_of_somebody_else_is_not_said_to_be_missing(open_directory: Path) -> None:
    environment = open_directory / ".venv"
    environment.mkdir(mode=0o700)
    finished = as_nobody("monoceros.welcome", "--chdir", open_directory)
    assert finished.returncode == 1, finished.stderr
    assert f"error: {environment}/bin/python cannot be reached (.venv beside the application)" in finished.stderr
    assert "Permission denied" in finished.stderr and "namei" in finished.stderr


def test_a_check_warns_of_an_expired_certificate(tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path, "example.test", days=-3)
    finished = run_to_end("check", "monoceros.welcome", *certificate.flags)
    assert finished.code == 0, finished.errors
    assert f"warn  the certificate in {certificate.certificate} expired 3 days ago" in finished.errors
    assert "ready" not in finished.errors


def test_keys_go_to_the_certificates_without_one(tmp_path: Path) -> None:
    first, second = (make_certificate(tmp_path, name) for name in ("first.test", "second.test"))
    both = tmp_path / "both.pem"
    both.write_bytes(first.certificate.read_bytes() + first.key.read_bytes())
    flags = ["--tls-cert", both, *second.flags]
    with Server("monoceros.welcome", *flags, binds=["https://127.0.0.1:0"]) as server:
        for name, certificate in (("first.test", first), ("second.test", second)):
            assert served_to(server, name, certificate) == 200


def served_to(server: Server, name: str, certificate: Certificate) -> int:
    """The status that a client gets who asks for `name` and trusts this certificate only."""
    context: ssl.SSLContext = certificate.context()
    with httpx.Client(verify=context, timeout=30) as client:
        extensions = {"sni_hostname": name}
        return client.get(server.https_url, headers={"Host": name}, extensions=extensions).status_code


@pytest.mark.parametrize("expression", ["create_app('you', greeting='good day')", 'create_app("you", greeting="good day")'])
def test_a_factory_gets_its_arguments(tmp_path: Path, expression: str) -> None:
    (tmp_path / "shop.py").write_text(FACTORY)
    with Server(f"shop:{expression}", cwd=tmp_path) as server:
        assert httpx.get(server.url, timeout=30).text == "good day you"


def test_arguments_of_a_factory_are_literals(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(FACTORY)
    finished = run_to_end("shop:create_app(open('/etc/passwd'))", cwd=tmp_path)
    assert finished.code == 4
    assert "a call with literal arguments" in finished.errors
