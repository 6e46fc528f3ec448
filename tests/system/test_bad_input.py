"""Mistakes of the operator: one clear message with a hint, an exit code other than 0, nothing left running."""

import os
import re
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness import Finished, Server, run_to_end
from harness.certificate import Certificate


def refused(*arguments: object, **options: object) -> Finished:
    """Runs the program and checks what is the same for every mistake."""
    done = run_to_end(*arguments, **options)  # type: ignore[arg-type]
    assert done.code not in (0, None), f"exit code {done.code}:\n{done.errors}"
    assert done.code > 0, f"ended by signal {-done.code}:\n{done.errors}"
    assert done.leftovers == [], done.errors
    assert "panicked" not in done.errors, done.errors
    assert "ready" not in done.errors.lower().split(), done.errors
    return done


BIND = ("--bind", "http://127.0.0.1:0")


@dataclass(frozen=True)
class Mistake:
    name: str
    app: str
    # All of these have to be in the message.
    patterns: tuple[str, ...]
    arguments: tuple[str, ...] = ()


APPLICATION_MISTAKES = [
    Mistake("missing module", "no_such_module:app", ("no_such_module",)),
    Mistake("missing attribute", "plain_wsgi:nothing", ("nothing", "plain_wsgi")),
    Mistake("missing nested attribute", "loading:holder.nothing", ("nothing",)),
    Mistake("not callable", "loading:not_callable", ("not_callable|callable",)),
    Mistake("raises while it is imported", "broken.raises:app", ("Traceback", r"broken[/.]raises", "RuntimeError: this module fails")),
    Mistake("imports what is not there", "broken.import_error:app", ("Traceback", "a_module_that_nobody_has")),
    Mistake("syntax error", "broken.syntax_error:app", ("SyntaxError", r"syntax_error\.py")),
    Mistake("failing factory", "loading:factory_that_fails", ("Traceback", "the factory failed on purpose"), ("--factory",)),
    Mistake("a path instead of a module", "plain_wsgi.py", (r"plain_wsgi",)),
]


@pytest.mark.parametrize("preload", [False, True], ids=["", "preload"])
@pytest.mark.parametrize("mistake", APPLICATION_MISTAKES, ids=lambda mistake: mistake.name)
def test_application_that_cannot_be_loaded(mistake: Mistake, preload: bool) -> None:
    done = refused(mistake.app, *BIND, *mistake.arguments, *(["--preload"] if preload else []), "--workers", 2)
    for pattern in mistake.patterns:
        assert re.search(pattern, done.errors), f"/{pattern}/ is missing in:\n{done.errors}"
    # Two workers failed for the same reason; it is told once.
    assert len(re.findall(r"^.*Traceback \(most recent call last\)", done.errors, re.MULTILINE)) <= 1, done.errors


def test_application_that_ends_the_interpreter() -> None:
    refused("broken.exits:app", *BIND, "--workers", 1, timeout=90)


def test_startup_failure_of_the_lifespan() -> None:
    done = refused("plain_asgi:app", *BIND, "--env", "LIFESPAN_FAILS=1", timeout=60)
    assert "the database of the test is not there" in done.errors


def test_hint_for_a_wrong_directory(tmp_path: Path) -> None:
    """The usual reason for a missing module: started somewhere else."""
    done = refused("plain_wsgi:app", *BIND, cwd=tmp_path)
    assert "plain_wsgi" in done.errors
    assert "--chdir" in done.errors, f"no hint in:\n{done.errors}"


def test_no_such_interpreter(tmp_path: Path) -> None:
    done = refused("plain_wsgi:app", *BIND, "--python", tmp_path / "python", python=None)
    assert str(tmp_path / "python") in done.errors


def test_interpreter_that_is_too_old(tmp_path: Path) -> None:
    """A stand-in that says it is Python 3.8: the version is checked before any worker starts."""
    fake = tmp_path / "python"
    pretend = "import sys; sys.version_info = (3, 8, 10, 'final', 0); exec(sys.argv.pop())"
    fake.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{pretend}" "$@"\n')
    fake.chmod(0o755)
    done = refused("plain_wsgi:app", *BIND, "--python", fake, python=None)
    assert str(fake) in done.errors
    assert "3.11" in done.errors, f"does not say which version is needed:\n{done.errors}"


def test_interpreter_that_is_no_program(tmp_path: Path) -> None:
    fake = tmp_path / "python"
    fake.write_text("not a program\n")
    done = refused("plain_wsgi:app", *BIND, "--python", fake, python=None)
    assert str(fake) in done.errors


# TLS

HTTPS = ("--bind", "https://127.0.0.1:0")


def test_https_without_a_certificate() -> None:
    done = refused("plain_wsgi:app", *HTTPS)
    assert "--tls-cert" in done.errors or "--dev-cert" in done.errors, done.errors


def test_certificate_that_is_not_there(certificate: Certificate, tmp_path: Path) -> None:
    done = refused("plain_wsgi:app", *HTTPS, "--tls-cert", tmp_path / "nothing.pem", "--tls-key", certificate.key)
    assert "nothing.pem" in done.errors


def test_key_that_is_not_there(certificate: Certificate, tmp_path: Path) -> None:
    done = refused("plain_wsgi:app", *HTTPS, "--tls-cert", certificate.certificate, "--tls-key", tmp_path / "nothing.key")
    assert "nothing.key" in done.errors


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_key_that_may_not_be_read(certificate: Certificate, tmp_path: Path) -> None:
    secret = tmp_path / "secret.key"
    secret.write_bytes(certificate.key.read_bytes())
    secret.chmod(0)
    done = refused("plain_wsgi:app", *HTTPS, "--tls-cert", certificate.certificate, "--tls-key", secret)
    assert "secret.key" in done.errors
    assert re.search("permission", done.errors, re.IGNORECASE)


def test_certificate_that_is_a_directory(certificate: Certificate, tmp_path: Path) -> None:
    done = refused("plain_wsgi:app", *HTTPS, "--tls-cert", tmp_path, "--tls-key", certificate.key)
    assert str(tmp_path) in done.errors


def test_certificate_without_a_certificate_in_it(certificate: Certificate, tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("nothing here\n")
    done = refused("plain_wsgi:app", *HTTPS, "--tls-cert", empty, "--tls-key", certificate.key)
    assert "empty.pem" in done.errors


def test_key_of_another_certificate(certificate: Certificate, other_certificate: Certificate) -> None:
    done = refused(
        "plain_wsgi:app", *HTTPS, "--tls-cert", certificate.certificate, "--tls-key", other_certificate.key
    )
    assert re.search("match|belong", done.errors), done.errors
    assert str(other_certificate.key) in done.errors


def test_certificate_without_its_key(certificate: Certificate) -> None:
    done = refused("plain_wsgi:app", *HTTPS, "--tls-cert", certificate.certificate)
    assert "--tls-key" in done.errors or "key" in done.errors


# Addresses


def test_port_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = refused("plain_wsgi:app", "--bind", f"127.0.0.1:{port}")
    assert str(port) in done.errors
    assert re.search("in use", done.errors, re.IGNORECASE)


def test_port_in_use_by_another_one_of_us() -> None:
    """SO_REUSEPORT must not let two servers share a port by accident."""
    with Server("plain_wsgi:app") as server:
        done = refused("plain_wsgi:app", "--bind", f"127.0.0.1:{server.port()}")
        assert re.search("in use", done.errors, re.IGNORECASE)


@pytest.mark.parametrize("address", ["127.0.0.1:99999", "127.0.0.1:port", "ftp://127.0.0.1:0", "256.0.0.1:0", ""])
def test_address_that_is_none(address: str) -> None:
    done = refused("plain_wsgi:app", "--bind", address)
    assert "bind" in done.errors


def test_address_of_another_machine() -> None:
    done = refused("plain_wsgi:app", "--bind", "192.0.2.1:0")
    assert "192.0.2.1" in done.errors


def test_unix_socket_in_a_missing_directory(tmp_path: Path) -> None:
    done = refused("plain_wsgi:app", "--bind", f"unix:{tmp_path}/missing/app.sock")
    assert f"{tmp_path}/missing" in done.errors


def test_unix_socket_path_that_is_an_ordinary_file(tmp_path: Path) -> None:
    """A file that is not a socket is somebody's data: it must not be replaced."""
    precious = tmp_path / "data"
    precious.write_text("precious")
    refused("plain_wsgi:app", "--bind", f"unix:{precious}")
    assert precious.read_text() == "precious"


# Flags and configuration


@pytest.mark.parametrize(
    "arguments",
    [
        ("--workers", "0"),
        ("--workers", "many"),
        ("--threads", "0"),
        ("--interface", "cgi"),
        ("--max-body", "lots"),
        ("--timeout", "soon"),
        ("--no-such-flag",),
        ("--env", "NO_EQUALS_SIGN"),
        ("--static-dir", "/static=/no/such/directory"),
        ("--chdir", "/no/such/directory"),
    ],
    ids=" ".join,
)
def test_flag_with_a_wrong_value(arguments: tuple[str, ...]) -> None:
    done = refused("plain_wsgi:app", *BIND, *arguments)
    wanted = arguments[0].removeprefix("--")
    assert wanted in done.errors or arguments[-1].rpartition("=")[2] in done.errors, done.errors


def test_no_application_at_all() -> None:
    done = refused(*BIND)
    assert re.search("app", done.errors, re.IGNORECASE)


def write(directory: Path, text: str) -> Path:
    file = directory / "monoceros.toml"
    file.write_text(text)
    return file


def test_unknown_key_in_the_configuration(tmp_path: Path) -> None:
    done = refused("--config", write(tmp_path, '[app]\napp = "plain_wsgi:app"\n[server]\nworkerz = 2\n'))
    assert "workerz" in done.errors
    assert "monoceros.toml" in done.errors
    assert "workers" in done.errors, f"does not say what was probably meant:\n{done.errors}"


def test_configuration_that_is_not_toml(tmp_path: Path) -> None:
    done = refused("--config", write(tmp_path, '[app]\napp = "plain_wsgi:app\n'))
    assert "monoceros.toml" in done.errors
    assert re.search(r"line 2|:2\b", done.errors), done.errors


def test_configuration_with_a_value_of_the_wrong_type(tmp_path: Path) -> None:
    done = refused("--config", write(tmp_path, '[app]\napp = "plain_wsgi:app"\n[server]\nworkers = "two"\n'))
    assert "workers" in done.errors


def test_configuration_that_is_not_there(tmp_path: Path) -> None:
    done = refused("--config", tmp_path / "nothing.toml")
    assert "nothing.toml" in done.errors


# check


def test_check_says_that_everything_is_in_order() -> None:
    done = run_to_end("check", "plain_wsgi:app", *BIND)
    assert done.code == 0, done.errors
    assert done.leftovers == []


def test_check_finds_what_start_would_find() -> None:
    done = run_to_end("check", "broken.raises:app", *BIND)
    assert done.code > 0
    assert "this module fails while it is imported" in done.errors + done.output
    assert done.leftovers == []


def test_version_and_help() -> None:
    version = run_to_end("--version", python=None)
    assert (version.code, version.output.split()[0]) == (0, "monoceros")
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", version.output.split()[1])
    text = run_to_end("--help", python=None)
    assert text.code == 0
    for flag in ("--bind", "--workers", "--tls-cert", "--static-dir", "--config"):
        assert flag in text.output
