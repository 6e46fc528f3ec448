"""The zygote: boot, fork, preload, signals, and that nothing outlives it."""

import os
import pathlib
import select
import signal
import subprocess
import time

import pytest
from front import EXIT_APP_LOAD, EXIT_LINK, Kind
from supervisor import SOURCE, Zygote

HELLO = """
import os, sys, signal, threading, atexit
def app(environ, start_response):
    if environ["PATH_INFO"] == "/exit":
        os._exit(7)
    if environ["PATH_INFO"] == "/path":
        body = repr((sys.path[:3], sys.argv, sorted(k for k in os.environ if k.startswith("MONOCEROS"))))
    elif environ["PATH_INFO"] == "/signals":
        body = repr([signal.getsignal(s) for s in (signal.SIGQUIT, signal.SIGCHLD)])
    elif environ["PATH_INFO"] == "/descriptors":
        body = repr([os.readlink(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{n}")])
    else:
        body = f"{os.getpid()} {IMPORTED_BY}"
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [body.encode()]
IMPORTED_BY = os.getpid()
"""


@pytest.fixture
def directory(tmp_path):
    (tmp_path / "hello.py").write_text(HELLO)
    return tmp_path


def test_forks_a_worker_that_serves(directory):
    with Zygote(directory, app="hello") as zygote:
        zygote.wait_event("loaded")
        worker = zygote.fork(1)
        assert worker.ready == ("wsgi", 1)
        response = worker.get("/")
        assert response.status == 200
        assert response.text == f"{worker.pid} {worker.pid}"
        assert response["content-length"] == str(len(response.body)).encode()
