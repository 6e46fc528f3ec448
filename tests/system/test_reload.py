"""New code without a gap: SIGHUP, more and fewer workers, and code that cannot be loaded."""

import os
import signal
import threading
import time
from pathlib import Path

import httpx
import pytest

from harness import Server, eventually, processes, run_to_end

CODE = """
import os
{extra}
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"{version}"]
"""

PRELOAD = pytest.mark.parametrize("flags", [[], ["--preload"]], ids=["plain", "preload"])


def write(directory: Path, version: int, extra: str = "") -> None:
    # Not in place: a worker that starts meanwhile must not read half a file.
    fresh = directory / "fresh.txt"
    fresh.write_text(CODE.format(version=f"version {version}", extra=extra))
    os.utime(fresh, (version, version))
    fresh.rename(directory / "site_app.py")


class Load:
    """Requests one after another on several connections; every answer is kept."""

    def __init__(self, url: str, clients: int = 4) -> None:
        self.answers: list[tuple[int, str]] = []
        self.seconds: list[float] = []
        self.errors: list[str] = []
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(url,)) for _ in range(clients)]

    def _ask(self, url: str) -> None:
        with httpx.Client(base_url=url, timeout=60) as client:
            while not self._over.is_set():
                try:
                    begun = time.monotonic()
                    answer = client.get("/")
                    self.seconds.append(time.monotonic() - begun)
                    self.answers.append((answer.status_code, answer.text))
                except httpx.HTTPError as error:
                    self.errors.append(repr(error))
                    return

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        eventually(lambda: len(self.answers) > len(self._threads), "the load")
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()


@pytest.fixture
def site(tmp_path: Path) -> Path:
    write(tmp_path, 1)
    return tmp_path


@PRELOAD
def test_reload_under_load_loses_nothing(site: Path, flags: list[str]) -> None:
    with Server("site_app:app", *flags, workers=2, cwd=site, env={"PYTHONDONTWRITEBYTECODE": "1"}) as server:
        with Load(server.url) as load:
            for version in range(2, 5):
                before = server.worker_pids()
                write(site, version)
                os.kill(server.pid, signal.SIGHUP)
                server.wait_for_log(rf"reload: generation {version} serves")
                server.wait_for_workers(2, other_than=before)
                assert httpx.get(server.url).text == f"version {version}"
        assert load.errors == []
        assert {status for status, _ in load.answers} == {200}
        assert {text for _, text in load.answers} == {f"version {version}" for version in range(1, 5)}
        # One zygote is left: the old ones end with their workers.
        eventually(lambda: len(processes.children(server.pid)) == 1, "one zygote")


@PRELOAD
def test_an_import_of_five_seconds_makes_nobody_wait(
    site: Path, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with Server("site_app:app", *flags, workers=2, cwd=site, env={"PYTHONDONTWRITEBYTECODE": "1"}) as server:
        with Load(server.url) as load:
            eventually(lambda: len(load.seconds) > 1000, "a thousand answers")
            before = list(load.seconds)
            write(site, 2, extra="import time; time.sleep(5)")
            os.kill(server.pid, signal.SIGHUP)
            server.wait_for_log("reload: generation 2 serves", timeout=90)
            during = load.seconds[len(before) :]
        assert load.errors == []
        assert {status for status, _ in load.answers} == {200}
        assert {text for _, text in load.answers} == {"version 1", "version 2"}
        p99 = [sorted(seconds)[len(seconds) * 99 // 100] * 1000 for seconds in (before, during)]
        with capsys.disabled():
            print(
                f"\nreload with an import of 5 s{' '.join(['', *flags])}: p99 {p99[0]:.1f} ms before, {p99[1]:.1f} ms during "
                f"(x {p99[1] / p99[0]:.2f}), slowest {max(during) * 1000:.0f} ms of {len(during)}"
            )
        assert max(during) < 2.5, "somebody waited for the import"


@PRELOAD
def test_broken_code_changes_nothing(site: Path, flags: list[str]) -> None:
    with Server("site_app:app", *flags, workers=2, cwd=site, env={"PYTHONDONTWRITEBYTECODE": "1"}) as server:
        before = sorted(server.worker_pids())
        with Load(server.url) as load:
            write(site, 2, extra="import a_module_that_is_missing")
            os.kill(server.pid, signal.SIGHUP)
            server.wait_for_log(r"reload: generation 2 is given up, nothing changes: .*a_module_that_is_missing")
            server.wait_for_log(r"ModuleNotFoundError")
        assert load.errors == []
        assert set(load.answers) == {(200, "version 1")}
        eventually(lambda: len(processes.children(server.pid)) == 1, "the zygote of the broken code is gone")
        assert sorted(server.worker_pids()) == before
        # And the next reload, of code that works again, works.
        write(site, 3)
        os.kill(server.pid, signal.SIGHUP)
        server.wait_for_log("reload: generation 3 serves")
        assert httpx.get(server.url).text == "version 3"


def test_more_and_fewer_workers() -> None:
    with Server("plain_wsgi:app", workers=1) as server:
        os.kill(server.pid, signal.SIGTTIN)
        server.wait_for_workers(2)
        server.wait_for_log("workers: 2 instead of 1")
        os.kill(server.pid, signal.SIGTTOU)
        server.wait_for_workers(1)
        os.kill(server.pid, signal.SIGTTOU)
        assert httpx.get(f"{server.url}/pid").status_code == 200


def test_workers_are_replaced_after_a_number_of_requests() -> None:
    flags = ["--max-requests", "50", "--max-requests-jitter", "20"]
    with Server("plain_wsgi:app", *flags, workers=2) as server:
        first = server.worker_pids()
        with Load(server.url) as load:
            server.wait_for_log(r"worker \d+ is replaced after \d+ requests")
            server.wait_for_workers(2, other_than=first)
        assert load.errors == []
        assert {status for status, _ in load.answers} == {200}


def test_workers_are_replaced_after_their_lifetime() -> None:
    with Server("plain_asgi:app", "--max-lifetime", "1s", workers=1) as server:
        first = server.worker_pids()
        with Load(server.url) as load:
            server.wait_for_log("worker 1 is replaced: its lifetime is over")
            server.wait_for_workers(1, other_than=first)
        assert load.errors == []
        assert {status for status, _ in load.answers} == {200}


def test_workers_that_grow_are_replaced(site: Path) -> None:
    write(site, 1, extra="hoard = []")
    code = (site / "site_app.py").read_text()
    (site / "site_app.py").write_text(code.replace("def app", "def grow(*_): hoard.append(b'x' * 10**8)\ndef app", 1))
    with (site / "site_app.py").open("a") as file:
        file.write("\nplain = app\ndef app(environ, start_response):\n    grow()\n    return plain(environ, start_response)\n")
    with Server("site_app:app", "--max-rss", "60MB", workers=1, cwd=site) as server:
        assert httpx.get(server.url).text == "version 1"
        server.wait_for_log(r"worker 1 is replaced: it uses \d+ MB", timeout=60)
        assert httpx.get(server.url).text == "version 1"


def test_an_import_that_hangs_is_given_up_with_preload(site: Path) -> None:
    write(site, 1, extra="import time; time.sleep(1000)")
    started = time.monotonic()
    finished = run_to_end("site_app:app", "--bind", "127.0.0.1:0", "--preload", "--boot-timeout", "2s", cwd=site)
    assert finished.code != 0 and finished.leftovers == []
    assert "no worker was ready within 2 s" in finished.errors
    assert time.monotonic() - started < 30


def test_the_end_of_a_zygote_is_seen_although_a_child_of_the_application_lives(site: Path) -> None:
    write(site, 1, extra="import subprocess, sys; subprocess.Popen(['sleep', '1000'], close_fds=False)")
    with Server("site_app:app", "--preload", workers=1, cwd=site) as server:
        before = server.worker_pids()
        [zygote] = processes.children(server.pid)
        os.kill(zygote, signal.SIGKILL)
        server.wait_for_log("the zygote was killed")
        server.wait_for_workers(2, other_than=before)
        assert httpx.get(server.url).text == "version 1"
        server.expect_clean_stop = False
