"""What the operator reads: start-up lines, the applications' output with the worker's number, the access log."""

import fcntl
import os
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from harness import Server, eventually
from harness.server import APPS, PROGRAM

APPLICATIONS = pytest.mark.parametrize("app", ["plain_wsgi:app", "plain_asgi:app"], ids=["wsgi", "asgi"])


@APPLICATIONS
def test_output_of_workers_has_their_number(app: str) -> None:
    with Server(app, workers=2) as server:
        numbers = set()
        for turn in range(40):
            assert httpx.get(f"{server.url}/prints", params={"word": f"turn{turn}"}, timeout=30).text == "printed"
            number = server.wait_for_log(rf"^w(\d+) \| on stderr: turn{turn}$")[1]
            # What a worker prints on stdout is on the program's stdout.
            eventually(lambda: f"w{number} | on stdout: turn{turn}\n" in server.output(), "line on stdout")  # noqa: B023
            numbers.add(number)
        assert numbers <= {"1", "2"}


def test_wsgi_errors_is_logged() -> None:
    with Server("plain_wsgi:app") as server:
        httpx.get(f"{server.url}/prints", params={"word": "word"}, timeout=30)
        server.wait_for_log(r"w1 \| on wsgi\.errors: word")


def test_every_line_of_a_traceback_has_the_number() -> None:
    with Server("plain_wsgi:app") as server:
        httpx.get(f"{server.url}/raises", timeout=30)
        server.wait_for_log("RuntimeError: raised on purpose")
        lines = server.log().splitlines()
        start = next(number for number, line in enumerate(lines) if "Traceback" in line)
        end = next(number for number, line in enumerate(lines) if "RuntimeError: raised on purpose" in line)
        assert all("w1 | " in line for line in lines[start : end + 1]), lines[start : end + 1]


def test_start_up_says_what_listens_where() -> None:
    with Server("plain_wsgi:app", workers=2) as server:
        log = server.log()
        assert re.search(r"listening on http://127\.0\.0\.1:\d+", log)
        assert re.search(r"\b2 (x )?.*workers|workers.*\b2\b", log), log
        assert re.search(r"[Pp]ython 3\.\d+", log), log
        assert len(log.splitlines()) < 15, f"a few calm lines were wished for:\n{log}"


def test_access_log_is_off_by_default() -> None:
    with Server("plain_wsgi:app") as server:
        httpx.get(f"{server.url}/pid?mark=invisible")
        server.stop()
        assert "invisible" not in server.log() + server.output()


def test_access_log_on_standard_output() -> None:
    with Server("plain_wsgi:app", "--access-log", "-") as server:
        httpx.get(f"{server.url}/pid?mark=visible", headers={"user-agent": "the-test"})
        httpx.get(f"{server.url}/nothing")
        # Written at the latest when the program stops.
        server.stop()
        first, second = server.output().splitlines()
        for part in ("127.0.0.1", "GET", "/pid?mark=visible", "200"):
            assert part in first
        assert "404" in second


def test_access_log_tells_how_long_a_request_waited(tmp_path: Path) -> None:
    with Server("plain_wsgi:app", "--access-log", "-", workers=1) as server:
        with ThreadPoolExecutor() as pool:
            asked = {"seconds": "0.5", "record": str(tmp_path)}
            slow = pool.submit(httpx.get, f"{server.url}/slow", params=asked, timeout=30)
            eventually((tmp_path / "entered").exists, "the slow request in the application")
            httpx.get(f"{server.url}/pid", timeout=30)
            assert slow.result().status_code == 200
        server.stop()
        waits = re.findall(r'"GET /(slow|pid).* worker=1 queue=([\d.]+)ms', server.output())
    waited = {path: float(milliseconds) for path, milliseconds in waits}
    assert waited["pid"] > waited["slow"] + 100, waits


def test_access_log_in_a_file_has_no_forged_lines(tmp_path: Path) -> None:
    target = tmp_path / "access.log"
    with Server("plain_wsgi:app", "--access-log", target) as server:
        httpx.get(f"{server.url}/pid", headers={"user-agent": 'evil" 200 \\ "agent'}, timeout=30)
        httpx.get(f"{server.url}/%0a127.0.0.1%20forged", timeout=30)
        server.stop()
    lines = target.read_text().splitlines()
    assert len(lines) == 2
    assert not any(line.startswith("127.0.0.1 forged") for line in lines)


def test_the_access_log_is_opened_again_after_a_rotation(tmp_path: Path) -> None:
    target, rotated = tmp_path / "access.log", tmp_path / "access.log.1"
    with Server("plain_wsgi:app", "--access-log", target) as server:
        httpx.get(f"{server.url}/pid?first", timeout=30)
        eventually(lambda: "/pid?first" in target.read_text(), "the first line")
        target.rename(rotated)
        server.process.send_signal(signal.SIGUSR1)
        server.wait_for_log("the access log is opened again")
        eventually(target.exists, "the new file")
        httpx.get(f"{server.url}/pid?second", timeout=30)
        eventually(lambda: "/pid?second" in target.read_text(), "the second line")
    assert rotated.read_text().count("\n") == 1 and target.read_text().count("\n") == 1


def test_log_level() -> None:
    with Server("plain_wsgi:app", "--log-level", "debug") as server:
        debug = server.log()
    with Server("plain_wsgi:app", "--log-level", "info") as server:
        info = server.log()
    assert len(debug) > len(info)


def test_a_log_that_nobody_reads_stops_nobody(tmp_path: Path) -> None:
    """A full pipe behind standard error: requests are answered, workers replaced, and SIGTERM is obeyed."""
    read_end, write_end = os.pipe()
    fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, 4096)
    flags = ["--bind", "127.0.0.1:0", "--workers", "1", "--python", sys.executable, "--access-log", "-"]
    flags += ["--graceful-timeout", "3s"]
    command = [str(PROGRAM), "plain_wsgi:app", *flags]
    with subprocess.Popen(command, cwd=APPS, stdin=subprocess.DEVNULL, stdout=write_end, stderr=write_end) as program:
        os.close(write_end)
        try:
            said = b""
            while b"worker 1 ready" not in said or not said.endswith(b"\n"):
                said += os.read(read_end, 4096)
            url = re.search(r"listening on (\S+)", said.decode())[1]
            # From here on nobody reads; this is several times what the pipe takes.
            with httpx.Client(base_url=url, timeout=30) as client:
                assert {client.get(f"/pid?{'x' * 500}").status_code for _ in range(100)} == {200}
                assert client.get("/die-once", params={"record": str(tmp_path)}).text == "alive"
            program.terminate()
            assert program.wait(30) == 0
        finally:
            program.kill()
            os.close(read_end)
