"""Commands for a running server: status, reload, scale, restart-worker, stop."""

import json
import os
import socket
import stat
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from harness import Server, eventually
from harness.server import PROGRAM

CODE = """
{extra}
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"{version}"]
"""


def write(directory: Path, version: str, extra: str = "") -> None:
    (directory / "site_app.py").write_text(CODE.format(version=version, extra=extra))


def command(server: Server, *arguments: object) -> subprocess.CompletedProcess[str]:
    words = [str(PROGRAM), *map(str, arguments), "--control", str(server.directory / "control.sock")]
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)


def status(server: Server) -> dict:
    return json.loads(command(server, "status", "--json").stdout)


@pytest.fixture
def server(tmp_path: Path):
    write(tmp_path, "first")
    # The directory of the server is known only to the server: a path below the working directory will do.
    with Server(
        "site_app:app",
        *("--control-socket", tmp_path / "control.sock"),
        workers=2,
        cwd=tmp_path,
        env={"PYTHONDONTWRITEBYTECODE": "1"},
    ) as server:
        (server.directory / "control.sock").symlink_to(tmp_path / "control.sock")
        yield server


def test_status(server: Server) -> None:
    eventually(lambda: len([w for w in status(server)["workers"] if w["state"] == "serving"]) == 2, "two workers")
    for _ in range(5):
        assert httpx.get(server.url).text == "first"
    told = status(server)
    assert told["pid"] == server.pid and told["app"] == "site_app:app" and told["generation"] == 1
    assert told["listening"] == [server.url]
    assert sorted(worker["pid"] for worker in told["workers"]) == sorted(server.worker_pids())
    assert sum(worker["answered"] for worker in told["workers"]) == 5
    assert all(worker["slots"] == 1 and worker["rss"] > 2**20 for worker in told["workers"])
    shown = command(server, "status")
    assert shown.returncode == 0 and "generation 1" in shown.stdout and "serving" in shown.stdout


def test_reload_waits_for_the_end_and_tells_it(server: Server, tmp_path: Path) -> None:
    before = server.worker_pids()
    write(tmp_path, "second")
    done = command(server, "reload")
    assert done.returncode == 0, done.stderr
    assert "generation 2 serves" in done.stdout.splitlines()[-1]
    assert httpx.get(server.url).text == "second"
    server.wait_for_workers(2, other_than=before)


def test_reload_of_broken_code_fails_with_its_traceback(server: Server, tmp_path: Path) -> None:
    before = sorted(server.worker_pids())
    write(tmp_path, "second", extra="1 / 0")
    failed = command(server, "reload")
    assert failed.returncode == 1
    assert "ZeroDivisionError" in failed.stderr and "nothing has changed" in failed.stderr
    assert httpx.get(server.url).text == "first"
    eventually(lambda: sorted(server.worker_pids()) == before, "the workers of before")


def test_scale_and_restart(server: Server) -> None:
    assert command(server, "scale", 3).returncode == 0
    server.wait_for_workers(3)
    eventually(lambda: {w["state"] for w in status(server)["workers"]} == {"serving"}, "three workers serve")
    first = status(server)["workers"][0]
    assert command(server, "restart-worker", first["worker"]).returncode == 0
    eventually(lambda: first["pid"] not in server.worker_pids(), "another worker")
    server.wait_for_workers(3)
    refused = command(server, "restart-worker", 999)
    assert refused.returncode == 1 and "there is no worker 999" in refused.stderr
    assert command(server, "scale", 0).returncode == 1


def test_stop(server: Server) -> None:
    assert command(server, "stop").returncode == 0
    assert server.process.wait(30) == 0
    server.expect_clean_stop = False
    server.expect_nothing_left()
    nobody = command(server, "status")
    assert nobody.returncode == 1 and "error:" in nobody.stderr


def test_the_socket_is_for_its_owner_alone_and_goes_with_the_server(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    server.stop()
    assert not path.exists()


def test_what_is_no_command_is_refused(server: Server, tmp_path: Path) -> None:
    for nonsense in (b"GET / HTTP/1.1\r\n\r\n", b'{"do":"dance"}\n', b"\0" * 100 + b"\n", b"x" * 10_000, b'{"do":"scale"}\n'):
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(30)
            client.connect(str(tmp_path / "control.sock"))
            client.sendall(nonsense)
            answer = client.recv(65536)
            assert b'"event":"failed"' in answer, (nonsense, answer)
    assert status(server)["pid"] == server.pid


def test_a_server_is_found_by_itself_or_by_its_process(tmp_path: Path) -> None:
    directory = tmp_path / "runtime"
    directory.mkdir(mode=0o700)
    environment = {**os.environ, "RUNTIME_DIRECTORY": str(directory)}
    write(tmp_path, "first")
    found = {"RUNTIME_DIRECTORY": str(directory)}
    with Server("site_app:app", cwd=tmp_path, env=found) as one, Server("site_app:app", cwd=tmp_path, env=found) as two:
        eventually(lambda: len(list(directory.iterdir())) == 2, "two sockets")

        def run(*arguments: str) -> subprocess.CompletedProcess[str]:
            words = [str(PROGRAM), *arguments]
            return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60, check=False)

        several = run("status")
        assert several.returncode == 1 and "choose one with --pid" in several.stderr
        assert f"process {two.pid}" in run("status", "--pid", str(two.pid)).stdout
        assert f"process {one.pid}" in run("status", "--pid", str(one.pid)).stdout


def test_a_socket_left_by_a_killed_server_is_replaced(tmp_path: Path) -> None:
    write(tmp_path, "first")
    path = tmp_path / "control.sock"
    for _ in range(2):
        with Server("site_app:app", "--control-socket", path, cwd=tmp_path) as server:
            started = time.monotonic()
            eventually(path.exists, "the socket")
            assert time.monotonic() - started < 30
            server.expect_clean_stop = False
            server.process.kill()
            server.process.wait()
        assert path.exists()


def test_drain_is_for_balancers_only(tmp_path: Path) -> None:
    write(tmp_path, "first")
    flags = ["--control-socket", tmp_path / "control.sock", "--health-path", "/-"]
    with Server("site_app:app", *flags, cwd=tmp_path) as server:
        (server.directory / "control.sock").symlink_to(tmp_path / "control.sock")

        def ready() -> int:
            return httpx.get(f"{server.url}/-/ready").status_code

        assert ready() == 200
        done = command(server, "drain")
        assert done.returncode == 0 and "not ready any more" in done.stdout
        assert ready() == 503 and httpx.get(f"{server.url}/-/live").status_code == 200
        assert httpx.get(server.url).text == "first"
        assert command(server, "drain", "--for", "1h").returncode == 0
        assert command(server, "drain", "off").stdout == "ready again\n"
        assert ready() == 200
        assert command(server, "drain", "--for", "soon").returncode == 2
        assert command(server, "drain", "--for", "100ms").returncode == 0
        server.wait_for_log("drain: not ready any more; everything is served, the server stops in 100ms")
        assert server.process is not None and server.process.wait(30) == 0


def test_a_stop_in_time_does_not_hurry_one_that_is_under_way(tmp_path: Path) -> None:
    gate = tmp_path / "go"
    write(tmp_path, "first", "import os, time")
    with (tmp_path / "site_app.py").open("a") as file:
        file.write(
            "\nquick = app\ndef app(environ, start_response):\n"
            f"    while environ['PATH_INFO'] == '/slow' and not os.path.exists({str(gate)!r}): time.sleep(0.01)\n"
            "    return quick(environ, start_response)\n"
        )
    with Server("site_app:app", "--control-socket", tmp_path / "control.sock", cwd=tmp_path) as server:
        (server.directory / "control.sock").symlink_to(tmp_path / "control.sock")
        with ThreadPoolExecutor() as threads:
            slow = threads.submit(httpx.get, f"{server.url}/slow", timeout=60)
            eventually(lambda: status(server)["workers"][0]["in_flight"] == 1, "the request is in the application")
            assert command(server, "drain", "--for", "1500ms").returncode == 0
            assert server.process is not None
            server.process.terminate()
            server.wait_for_log("stopping: 1 connection may finish")
            # Nothing tells that the time is over, for nothing is to happen then.
            time.sleep(2.5)
            gate.touch()
            assert slow.result(60).text == "first"
        assert server.process.wait(30) == 0
        assert "cut off" not in server.log()
