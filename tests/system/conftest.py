"""Fixtures of the system tests."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from harness import Server
from harness.certificate import Certificate, make_certificate
from harness.server import PROGRAM


@pytest.fixture(scope="session", autouse=True)
def data_directory(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The authority for development certificates of these tests is none of the user's."""
    os.environ["XDG_DATA_HOME"] = str(tmp_path_factory.mktemp("data"))


def pytest_sessionstart(session: pytest.Session) -> None:
    if not PROGRAM.exists():
        pytest.exit(f"{PROGRAM} does not exist: run `cargo build` first, or set SYSTEM_TEST_PROGRAM", returncode=3)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("certificate"), "localhost")


@pytest.fixture(scope="session")
def other_certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """A second certificate, with another name and another key."""
    return make_certificate(tmp_path_factory.mktemp("other"), "other.test")


BOTH = ("http://127.0.0.1:0", "https://127.0.0.1:0")


@pytest.fixture(scope="module")
def serve_module(certificate: Certificate) -> Iterator[Callable[..., Server]]:
    """Starts programs that live as long as the module's tests; each listens on http and https unless told otherwise."""
    started: list[Server] = []

    def start(app: str, *arguments: object, **settings: object) -> Server:
        settings.setdefault("binds", BOTH)
        server = Server(app, *certificate.flags, *arguments, **settings)  # type: ignore[arg-type]
        server.__enter__()
        started.append(server)
        return server

    yield start
    for server in reversed(started):
        server.__exit__(None, None, None)
