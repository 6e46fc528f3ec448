"""Builds the worker extension once per session, unless `MONOCEROS_WORKER_EXTENSION` names one."""

import importlib.util
import os
import pathlib
import subprocess
import sys

import pytest

sys.path.insert(0, os.path.dirname(__file__))


def pytest_sessionstart(session):
    if "MONOCEROS_WORKER_EXTENSION" not in os.environ:
        root = pathlib.Path(__file__).resolve().parents[2]
        subprocess.run(["cargo", "build", "--quiet", "--package", "monoceros-worker"], cwd=root, check=True)


@pytest.fixture(params=["asyncio", "uvloop"])
def asgi(request):
    """Starts ASGI workers on either event loop. At the end each must drain and exit with 0, unless the test has
    ended it already."""
    from front import Worker

    if importlib.util.find_spec(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    workers = []

    def start(app, **settings):
        settings.setdefault("lifespan", "off")
        worker = Worker(app, interface="asgi", event_loop=request.param, **settings)
        workers.append(worker)
        return worker.__enter__()

    yield start
    try:
        for worker in workers:
            if worker.exit_code is None and not worker.eof:
                worker.drain()
                assert worker.wait_exit() == 0, worker.log()
    finally:
        for worker in workers:
            worker.stop()
