"""Processes that an application forks: signals mean to them what they mean to any program of Python."""

import os
import signal

import pytest

from front import Worker
from supervisor import Zygote

WSGI = """
import multiprocessing, signal, time
fork = multiprocessing.get_context("fork")
def sleep():
    while True:
        time.sleep(0.1)
def handlers():
    kinds = [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGINT)]
    print(kinds == [signal.SIG_DFL] * 3 + [signal.default_int_handler], flush=True)
def at_import():
    child = fork.Process(target=sleep, daemon=True)
    child.start()
    return child
def app(environ, start_response):
    start_response("200 OK", [])
    if environ["PATH_INFO"] == "/handlers":
        child = fork.Process(target=handlers)
        child.start()
        child.join()
        return [b""]
    child = fork.Process(target=sleep)
    child.start()
    child.terminate()
    child.join(5)
    return [str(child.exitcode).encode()]
"""


@pytest.fixture
def directory(tmp_path):
    (tmp_path / "site_app.py").write_text(WSGI)
    return tmp_path


@pytest.mark.parametrize("preload", [False, True])
def test_a_child_can_be_terminated(directory, preload):
    with Zygote(directory, app="site_app", preload=preload) as zygote:
        worker = zygote.fork(1)
        assert worker.get("/").text == str(-signal.SIGTERM)
        worker.get("/handlers")
        assert worker.log() == "True\n"


def test_a_daemon_does_not_keep_its_worker_from_ending(directory):
    (directory / "daemonic.py").write_text(WSGI + "\nprint(at_import().pid, flush=True)\n")
    with Zygote(directory, app="daemonic") as zygote:
        worker = zygote.fork(1)
        child = int(worker.wait_log("\n"))
        worker.drain()
        assert worker.exited() == {"code": 0}
        with pytest.raises(ProcessLookupError):
            os.kill(child, 0)


@pytest.mark.parametrize("event_loop", ["asyncio", "uvloop"])
def test_terminating_a_child_leaves_its_parent_alone(event_loop):
    """The child has inherited the descriptor by which signals wake the event loop of its parent."""
    namespace = {}
    exec(WSGI, namespace)

    async def app(scope, receive, send):
        body = namespace["app"]({"PATH_INFO": scope["path"]}, lambda *_: None)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body[0]})

    with Worker(app, "asgi", event_loop=event_loop, lifespan="off") as worker:
        for _ in range(3):
            assert worker.get("/").text == str(-signal.SIGTERM)
        assert not worker.eof and not worker.link
        worker.drain()
        assert worker.wait_exit() == 0


def test_a_preloaded_application_leaves_the_signals_of_the_zygote_alone(tmp_path):
    (tmp_path / "site_app.py").write_text(
        "import os, signal, sys\n"
        "signal.signal(signal.SIGTERM, lambda *_: (print('mine', os.getpid(), flush=True), sys.exit(0)))\n"
        "def app(environ, start_response):\n"
        "    start_response('200 OK', [])\n"
        "    return [b'']\n"
    )
    with Zygote(tmp_path, app="site_app", preload=True) as zygote:
        zygote.wait_event("loaded")
        zygote.process.send_signal(signal.SIGTERM)
        worker = zygote.fork(1)
        assert zygote.log() == ""
        os.kill(worker.pid, signal.SIGTERM)
        assert worker.exited() == {"code": 0}
        assert worker.log() == f"mine {worker.pid}\n"
