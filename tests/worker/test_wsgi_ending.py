"""How a WSGI worker with threads ends, by SIGTERM and at once by SIGQUIT; and that its link is always read."""

import os
import signal
import time

import pytest

from front import Kind, Phase, Worker
from supervisor import Zygote

APP = """
import atexit, os, time
atexit.register(print, "exit hook")
def app(environ, start_response):
    try:
        while environ["PATH_INFO"] == "/wait" and not os.path.exists("go"):
            time.sleep(0.01)
    except SystemExit:
        print("interrupted")
        raise
    start_response("200 OK", [])
    return [b"finished"]
"""


@pytest.fixture
def directory(tmp_path):
    (tmp_path / "site_app.py").write_text(APP)
    return tmp_path


@pytest.mark.parametrize("threads", [1, 3])
def test_sigterm_tells_the_front_and_takes_nothing_more(directory, threads):
    with Zygote(directory, app="site_app", threads=threads) as zygote:
        worker = zygote.fork(1)
        running = [worker.request("GET", "/wait") for _ in range(threads)]
        for exchange in running:
            exchange.wait_phase(Phase.ENTERED)
        os.kill(worker.pid, signal.SIGTERM)
        if threads > 1:
            # One thread becomes free and notices; the others go on.
            late = worker.request("GET", "/late")
        (directory / "go").touch()
        for exchange in running:
            assert exchange.response().body == b"finished"
        worker.link_frame(Kind.DRAIN)
        assert worker.exited() == {"code": 0}
        assert not worker.link
        if threads > 1:
            assert late.phase == Phase.HANDED


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("drained", [False, True])
def test_sigquit_ends_a_busy_worker_with_its_exit_hooks(directory, threads, drained):
    with Zygote(directory, app="site_app", threads=threads) as zygote:
        worker = zygote.fork(1)
        for _ in range(threads):
            worker.request("GET", "/wait").wait_phase(Phase.ENTERED)
        if drained:
            worker.drain()
        started = time.monotonic()
        zygote.signal(1, signal.SIGQUIT)
        assert worker.exited() == {"code": 0}
        assert time.monotonic() - started < 2
        assert worker.log().endswith("exit hook\n")
        assert "Traceback" not in worker.log()


@pytest.mark.parametrize("threads", [1, 3])
def test_sigquit_ends_an_idle_worker(directory, threads):
    with Zygote(directory, app="site_app", threads=threads) as zygote:
        worker = zygote.fork(1)
        zygote.signal(1, signal.SIGQUIT)
        assert worker.exited() == {"code": 0}
        assert worker.log() == "exit hook\n"


def test_sigquit_ends_a_worker_that_does_not_want_to(tmp_path):
    (tmp_path / "site_app.py").write_text(
        "import threading, time\n"
        "def app(environ, start_response):\n"
        "    while True:\n"
        "        try: time.sleep(100)\n"
        "        except BaseException: print('no')\n"
    )
    with Zygote(tmp_path, app="site_app") as zygote:
        worker = zygote.fork(1)
        worker.request("GET", "/").wait_phase(Phase.ENTERED)
        zygote.signal(1, signal.SIGQUIT)
        assert worker.exited(5) == {"signal": signal.SIGKILL}
        assert worker.log() == "no\n"


def test_a_cancelled_response_leaves_the_link_to_the_other_threads(tmp_path):
    """Its thread was the one that reads; what the application does while it closes must not keep the others waiting."""

    def app(environ, start_response):
        def body():
            try:
                while True:
                    yield bytes(65536)
            finally:
                while not (tmp_path / "closed").exists():
                    time.sleep(0.01)

        start_response("200 OK", [])
        if environ["PATH_INFO"] == "/endless":
            return body()
        while environ["PATH_INFO"] == "/hold" and not (tmp_path / "go").exists():
            time.sleep(0.01)
        return [b"quick"]

    with Worker(app, "wsgi", threads=2) as worker:
        hold = worker.request("GET", "/hold")
        hold.wait_phase(Phase.ENTERED)
        # The other thread reads alone from here on, until its credit is used up and after it.
        endless = worker.request("GET", "/endless")
        worker.wait(lambda: sum(len(frame.payload) for frame in endless.queue) >= 1 << 20, "the end of the credit")
        (tmp_path / "go").touch()
        assert hold.response().body == b"quick"
        endless.cancel()
        assert worker.request("GET", "/").response(timeout=1).body == b"quick"
        (tmp_path / "closed").touch()
