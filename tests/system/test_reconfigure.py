"""HUP and `monoceros reload` read the configuration again: all of it holds, or nothing has changed."""

import contextlib
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import Server, eventually
from harness.certificate import Certificate
from harness.load import Load, connection_to
from harness.server import PROGRAM

CODE = """
import os, time
def app(environ, start_response):
    if environ["PATH_INFO"] == "/slow":
        time.sleep(3)
    length = int(environ.get("CONTENT_LENGTH") or 0)
    environ["wsgi.input"].read(length)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [os.environ.get("COLOUR", "none").encode()]
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "site_app.py").write_text(CODE)
    return tmp_path


def configure(site: Path, **sections: dict[str, object]) -> None:
    """Writes the file: its values are JSON, which TOML understands for texts, numbers, switches and lists."""
    lines = []
    for section, values in {"app": {}, "server": {}, **sections}.items():
        lines.append(f"[{section}]")
        if section == "app":
            values = {"app": "site_app:app", **values}
        if section == "server":
            values = {"bind": ["127.0.0.1:0"], "workers": 1, "control_socket": f"{site}/control.sock", **values}
        lines += [f"{name} = {json.dumps(value)}" for name, value in values.items()]
    (site / "site.toml").write_text("\n".join(lines) + "\n")


@contextlib.contextmanager
def serving(site: Path, **sections: dict[str, object]) -> Iterator[Server]:
    configure(site, **sections)
    environment = {"PYTHONDONTWRITEBYTECODE": "1"}
    with Server(None, "--config", site / "site.toml", binds=(), workers=None, cwd=site, env=environment) as server:
        yield server


def command(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    words = [str(PROGRAM), *arguments, "--control", str(site / "control.sock")]
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)


def reload(site: Path, **sections: dict[str, object]) -> str:
    configure(site, **sections)
    done = command(site, "reload")
    assert done.returncode == 0, done.stderr
    return done.stdout


def status(site: Path) -> dict:
    return json.loads(command(site, "status", "--json").stdout)


class Asker:
    """Asks on one connection that stays open throughout."""

    def __init__(self, url: str) -> None:
        self.connection = connection_to(url, None)
        self.connection.connect()
        self.socket = self.connection.sock

    def ask(self, path: str = "/", **options: object) -> tuple[int, bytes]:
        self.connection.request(options.pop("method", "GET"), path, **options)
        answer = self.connection.getresponse()
        body = answer.read()
        assert self.connection.sock is self.socket, "the connection was closed"
        return answer.status, body


def test_everything_that_does_not_need_a_restart(site: Path) -> None:
    (site / "files").mkdir()
    (site / "files" / "page.txt").write_text("a file")
    with serving(site, app={"env": ["COLOUR=red"]}, server={"front_threads": 2}) as server:
        old = Asker(server.url)
        with Load([server.url]) as load:
            assert old.ask() == (200, b"red")
            assert old.ask("/-/live")[0] == 200 and old.ask("/files/page.txt") == (200, b"red")
            told = reload(
                site,
                app={"env": ["COLOUR=blue"]},
                server={"front_threads": 3, "workers": 2, "health_path": "/health", "threads": 2},
                static={"dir": [f"/files={site}/files"]},
                limits={"max_body": "10"},
                upstream={"timeout": "1s", "queue_size": 7},
                log={"level": "debug", "access_log": f"{site}/access.log"},
            )
            line = server.wait_for_log(r"configuration: (.*)").group(1)
            for part in ("env;", "workers 1 → 2", "health-path not set → /health", "max-body 1MB → 10", "log-level info → debug"):
                assert part in line, line
            assert line in told and "blue" not in line
            assert server.wait_for_log("needs a restart: (.*)").group(1) == "front-threads 2 → 3"
            load.goes_on(lambda answer: answer[1] == "blue")
            # The next requests of a connection that was there before.
            assert old.ask() == (200, b"blue")
            assert old.ask("/health/live") == (200, b"alive\n")
            assert old.ask("/files/page.txt") == (200, b"a file")
            assert old.ask("/slow")[0] == 504
            fresh = Asker(server.url)
            assert fresh.ask(method="POST", body=b"x" * 10)[0] == 200
            with connection_to_closing(server.url) as closing:
                closing.request("POST", "/", body=b"x" * 11)
                assert closing.getresponse().status == 413
        load.expect_only(200)
        assert {text for _, text in load.answers} <= {"red", "blue"}
        eventually(lambda: "/health" not in (text := (site / "access.log").read_text()) and '"GET /slow' in text, "the access log")
        told_status = status(site)
        assert told_status["workers_wanted"] == 2 and told_status["listening"] == [server.url]
        # And back: without a change there is no line about it, except for what still needs a restart.
        reload(site, app={"env": ["COLOUR=red"]}, server={"front_threads": 3})
        assert old.ask() == (200, b"red")
        assert old.ask("/files/page.txt") == (200, b"red")
        # Said by the level that held meanwhile.
        server.wait_for_log(r"debug zygote \d+ runs Python")
        assert status(site)["workers_wanted"] == 1


@contextlib.contextmanager
def connection_to_closing(url: str) -> Iterator[http.client.HTTPConnection]:
    connection = connection_to(url, None)
    yield connection
    connection.close()


def test_addresses(site: Path) -> None:
    path, other = f"unix:{site}/a.sock", f"unix:{site}/b.sock"
    with serving(site, server={"bind": ["127.0.0.1:0", path]}) as server:
        kept = server.url
        with Load([kept]) as load:
            for round_ in range(3):
                gone, new = (path, other) if round_ % 2 == 0 else (other, path)
                going = Asker(gone)
                reload(site, server={"bind": [new, "127.0.0.1:0"], "admin_bind": [f"unix:{site}/admin.sock"]})
                assert status(site)["listening"] == [new, kept]
                # An open connection outlives its listener.
                assert going.ask()[0] == 200
                assert Asker(new).ask()[0] == 200
                assert Asker(f"unix:{site}/admin.sock").ask("/-/ready") == (200, b"ready\n")
                assert not Path(gone.removeprefix("unix:")).exists()
            reload(site, server={"bind": ["127.0.0.1:0"]})
            assert not (site / "admin.sock").exists()
        load.expect_only(200)


def test_what_waits_in_the_queue_of_an_address_that_goes_is_served(site: Path) -> None:
    path = f"unix:{site}/a.sock"
    for _ in range(5):
        with serving(site, server={"bind": ["127.0.0.1:0", path]}) as server:
            with Load([path]) as load:
                configure(site)
                os.kill(server.pid, signal.SIGHUP)
                server.wait_for_log("configuration: bind")
                eventually(lambda: load.errors, "the end of the address")
            # Who connected before the name was gone is answered: only connecting may fail.
            errors = [error for error in load.errors if "FileNotFound" not in error and "Refused" not in error]
            assert errors == []


def test_certificates(site: Path, certificate: Certificate, other_certificate: Certificate) -> None:
    def tls(made: Certificate) -> dict[str, object]:
        return {"cert": [str(made.certificate)], "key": [str(made.key)]}

    def subject(server: Server) -> str:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with socket.create_connection(("127.0.0.1", server.port("https"))) as plain:
            with context.wrap_socket(plain, server_hostname="localhost") as secure:
                return ssl.DER_cert_to_PEM_cert(secure.getpeercert(binary_form=True))

    with serving(site, server={"bind": ["https://127.0.0.1:0"]}, tls=tls(certificate)) as server:
        assert subject(server) == certificate.certificate.read_text()
        old = connection_to(server.https_url, certificate.context())
        old.request("GET", "/")
        assert old.getresponse().read() == b"none"
        reload(site, server={"bind": ["https://127.0.0.1:0"]}, tls=tls(other_certificate))
        assert subject(server) == other_certificate.certificate.read_text()
        old.request("GET", "/")
        assert old.getresponse().read() == b"none"
        # The same port, now without TLS.
        port = server.port("https")
        reload(site, server={"bind": ["127.0.0.1:0"]})
        assert status(site)["listening"] == [f"http://127.0.0.1:{port}"]
        assert Asker(f"http://127.0.0.1:{port}").ask() == (200, b"none")
        old.close()


def test_a_port_changes_to_tls(site: Path, certificate: Certificate) -> None:
    free = socket.create_server(("127.0.0.1", 0))
    port = free.getsockname()[1]
    free.close()
    with serving(site, server={"bind": [f"127.0.0.1:{port}"]}) as server:
        assert Asker(server.url).ask()[0] == 200
        tls = {"cert": [str(certificate.certificate)], "key": [str(certificate.key)]}
        reload(site, server={"bind": [f"127.0.0.1:{port}"]}, tls=tls)
        secure = connection_to(f"https://127.0.0.1:{port}", certificate.context())
        secure.request("GET", "/")
        assert secure.getresponse().read() == b"none"
        secure.close()


def test_mistakes_are_all_told_and_nothing_changes(site: Path) -> None:
    with serving(site) as server:
        with Load([server.url]) as load:
            # What can be found without opening anything.
            configure(site, server={"workers": 0, "bind": ["nonsense"]}, limits={"max_body": "much"})
            done = command(site, "reload")
            assert done.returncode == 1
            for part in ("nothing has changed", "workers", "nonsense", "max-body", "3 mistakes in the configuration"):
                assert part in done.stderr, done.stderr
            # What is found when it is opened: also together.
            configure(
                site,
                server={"workers": 3, "bind": ["127.0.0.1:0", "192.0.2.1:0", f"unix:{site}/new.sock"]},
                log={"access_log": f"{site}/missing/access.log"},
            )
            os.kill(server.pid, signal.SIGHUP)
            server.wait_for_log("reload: nothing changes: the configuration cannot be used")
            server.wait_for_log("192.0.2.1:0 is not an address of this machine")
            server.wait_for_log("the access log cannot be opened: .*missing/access.log")
            assert not (site / "new.sock").exists()
            # What only a worker finds.
            configure(site, app={"app": "site_app:missing"}, server={"workers": 3, "bind": ["127.0.0.1:0", f"unix:{site}/new.sock"]})
            done = command(site, "reload")
            assert done.returncode == 1 and "nothing has changed" in done.stderr, done.stderr
            assert not (site / "new.sock").exists()
            told = status(site)
            assert told["workers_wanted"] == 1 and told["listening"] == [server.url] and told["app"] == "site_app:app"
            load.goes_on()
        load.expect_only(200)
        assert "configuration:" not in server.log()
        assert "workers 1 → 3" in reload(site, server={"workers": 3})
        assert status(site)["workers_wanted"] == 3


def test_a_number_of_workers_that_was_asked_for_stays(site: Path) -> None:
    with serving(site) as server:
        os.kill(server.pid, signal.SIGTTIN)
        server.wait_for_log("workers: 2 instead of 1")
        reload(site)
        assert status(site)["workers_wanted"] == 2
        reload(site, server={"workers": 3})
        assert status(site)["workers_wanted"] == 3


def test_a_later_reload_wins_over_one_that_is_being_tried(site: Path) -> None:
    with serving(site) as server:
        (site / "site_app.py").write_text("import time; time.sleep(600)")
        configure(site, server={"bind": ["127.0.0.1:0", f"unix:{site}/new.sock"]}, app={"env": ["COLOUR=red"]})
        os.kill(server.pid, signal.SIGHUP)
        server.wait_for_log("generation 2")
        # One with a mistake does not touch it, nor its addresses.
        (site / "site.toml").write_text("nonsense")
        assert command(site, "reload").returncode == 1
        assert (site / "new.sock").exists()
        (site / "site_app.py").write_text(CODE)
        reload(site, server={"bind": ["127.0.0.1:0", f"unix:{site}/new.sock"]}, app={"env": ["COLOUR=blue"]})
        assert Asker(server.url).ask() == (200, b"blue")
        assert Asker(f"unix:{site}/new.sock").ask() == (200, b"blue")


def test_a_socket_file_that_somebody_has_removed_is_there_again(site: Path) -> None:
    path = site / "front.sock"
    with serving(site, server={"bind": ["127.0.0.1:0", f"unix:{path}"]}):
        path.unlink()
        done = command(site, "reload")
        assert done.returncode == 0, done.stderr
        assert connection_answers(f"unix:{path}")
    assert not path.exists()


def connection_answers(address: str) -> bool:
    connection = connection_to(address, None)
    connection.request("GET", "/")
    answered = connection.getresponse().status == 200
    connection.close()
    return answered


def test_a_configuration_that_cannot_be_read_in_time_does_not_keep_the_server(site: Path) -> None:
    with serving(site) as server:
        (site / "site.toml").unlink()
        # Whoever reads it waits for a writer, as for a disk that does not answer.
        os.mkfifo(site / "site.toml")
        os.kill(server.pid, signal.SIGHUP)
        # It still does what it is asked for.
        assert command(site, "scale", "2").returncode == 0
        server.wait_for_workers(2)
        server.stop()
