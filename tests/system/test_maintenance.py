"""Maintenance mode and the pages of a site for failures."""

import json
import subprocess
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from harness import Server, eventually, run_to_end
from harness.http import Background
from harness.server import PROGRAM

HTML = {"accept": "text/html"}


def maintenance(server: Server, *arguments: object, expected: int = 0) -> str:
    command = [str(PROGRAM), "maintenance", *map(str, arguments), "--control", str(server.directory / "control")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == expected, ended
    return ended.stdout + ended.stderr


class Site(Server):
    def __init__(self, *arguments: object, app: str = "plain_wsgi:app") -> None:
        super().__init__(app, *arguments)
        self._command += ["--control-socket", str(self.directory / "control")]


def test_on_and_off(tmp_path: Path) -> None:
    (tmp_path / "file.css").write_text("body {}")
    flags = ("--static-dir", f"/static={tmp_path}", "--health-path", "/-", "--admin-bind", "127.0.0.1:0")
    with Site(*flags) as server:
        assert "maintenance is off" in maintenance(server, "status")
        assert httpx.get(server.url).text == "hello"
        maintenance(server, "on")
        server.wait_for_log("maintenance: new requests get 503")
        for path in ("/", "/static/file.css", "/nowhere"):
            answer = httpx.get(server.url + path, headers=HTML)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "300"), path
            assert "Down for maintenance" in answer.text
        assert httpx.post(server.url, content=b"x" * 100_000).status_code == 503
        problem = httpx.get(server.url, headers={"accept": "application/json"})
        assert problem.headers["content-type"] == "application/problem+json"
        assert (problem.json()["status"], "working on this site" in problem.json()["detail"]) == (503, True)
        # A balancer goes on sending clients, who are to see the page.
        ready = httpx.get(f"{server.url}/-/ready")
        assert (ready.status_code, ready.text) == (200, "ready, in maintenance\n")
        admin = server.wait_for_log(r"for operators: (\S+)")[1]
        assert httpx.get(admin).json()["maintenance"] is True
        status = [str(PROGRAM), "status", "--json", "--control", str(server.directory / "control")]
        assert json.loads(subprocess.check_output(status))["maintenance"] is True
        maintenance(server, "off")
        server.wait_for_log("maintenance has ended")
        assert httpx.get(server.url).text == "hello"
        assert httpx.get(f"{server.url}/-/ready").text == "ready\n"


def test_words_and_time_are_the_operators() -> None:
    with Site() as server:
        maintenance(server, "on", "--retry-after", "90s", "--message", "Back at <noon>.")
        answer = httpx.get(server.url, headers=HTML)
        assert answer.headers["retry-after"] == "90"
        assert "Back at &lt;noon&gt;." in answer.text
        assert "Back at <noon>." in httpx.get(server.url).text
        assert "Retry-After 90 s: Back at <noon>." in maintenance(server, "status")


def test_who_is_let_in(tmp_path: Path) -> None:
    flags = ("--maintenance-bypass", "/pid", "--maintenance-bypass", "header:x-pass=s3cret")
    with Site(*flags) as server:
        maintenance(server, "on", "--bypass", "cookie:pass=open")
        statuses = {
            "nobody": httpx.get(server.url).status_code,
            "path": httpx.get(f"{server.url}/pid").status_code,
            "other path": httpx.get(f"{server.url}/pids").status_code,
            "header": httpx.get(server.url, headers={"x-pass": "s3cret"}).status_code,
            "wrong header": httpx.get(server.url, headers={"x-pass": "S3cret"}).status_code,
            "cookie": httpx.get(server.url, headers={"cookie": "a=b; pass=open"}).status_code,
        }
        assert [name for name, status in statuses.items() if status == 200] == ["path", "header", "cookie"]
        # The rules of the command count until the next one.
        maintenance(server, "on", "--bypass", "127.0.0.0/8")
        assert httpx.get(server.url).text == "hello"
        maintenance(server, "on", "--bypass", "10.0.0.0/8")
        assert httpx.get(server.url, headers={"cookie": "pass=open"}).status_code == 503
        assert "lets nobody in" in maintenance(server, "on", "--bypass", "10.0.0/8", expected=1)


def test_what_is_on_its_way_is_finished_and_a_reload_changes_nothing(tmp_path: Path) -> None:
    with Site() as server, Background(server.url) as background:
        held = background.get("/hold", params={"record": str(tmp_path)})
        eventually((tmp_path / "entered").exists, "the request in the application")
        maintenance(server, "on")
        assert httpx.get(server.url).status_code == 503
        (tmp_path / "release").touch()
        assert held.result(60).text == "held"
        subprocess.check_call([str(PROGRAM), "reload", "--control", str(server.directory / "control")])
        assert httpx.get(server.url).status_code == 503


def test_websockets_stay_and_new_ones_are_not_opened() -> None:
    with Site(app="plain_asgi:app") as server:
        address = server.url.replace("http", "ws", 1) + "/echo"
        with connect(address) as socket:
            maintenance(server, "on")
            with pytest.raises(InvalidStatus) as refused, connect(address):
                pass
            assert refused.value.response.status_code == 503
            socket.send("still here")
            assert socket.recv(30) == "still here"


def test_pages_of_the_site(tmp_path: Path) -> None:
    pages = tmp_path / "pages"
    pages.mkdir()
    (pages / "404.html").write_text("<h1>{{status}} {{title}}</h1><p>{{detail}}</p>")
    (pages / "5xx.html").write_text("ours: {{status}}")
    (pages / "maintenance.html").write_text("closed: {{detail}}")
    (pages / "logo.svg").write_text("<svg/>")
    (tmp_path / "static").mkdir()
    with Site("--error-pages", pages, "--static-dir", f"/static={tmp_path / 'static'}") as server:
        missing = httpx.get(f"{server.url}/static/nothing", headers=HTML)
        assert missing.text == "<h1>404 Not Found</h1><p>There is nothing at this address.</p>"
        assert missing.headers["content-type"] == "text/html; charset=utf-8"
        assert httpx.get(f"{server.url}/raises", headers=HTML).text == "ours: 500"
        # Programs get what they can read.
        assert httpx.get(f"{server.url}/raises", headers={"accept": "application/json"}).json()["status"] == 500
        maintenance(server, "on", "--message", "back soon")
        assert httpx.get(server.url, headers=HTML).text == "closed: back soon"
        maintenance(server, "off")
        (pages / "5xx.html").write_text("new: {{status}}")
        subprocess.check_call([str(PROGRAM), "reload", "--control", str(server.directory / "control")])
        assert httpx.get(f"{server.url}/raises", headers=HTML).text == "new: 500"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("50x.html", b"", "is the page for no failure"),
        ("503.html", b"{{code}}", "unknown placeholder {{code}}"),
        ("503.html", b"\xff", "is not UTF-8"),
        ("503.html", b" " * (256 * 1024 + 1), "is longer than 256 KiB"),
        ("logo.svg", b"", "there is no page in"),
    ],
)
def test_mistakes_in_pages_are_found_at_the_start(name: str, content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    ended = run_to_end("check", "plain_wsgi:app", "--error-pages", tmp_path)
    assert ended.code != 0
    assert said in ended.errors
    assert str(tmp_path) in ended.errors
