"""Requests that take too long, each in its own way."""

import contextlib
import os
import threading
import time
from pathlib import Path


def app(environ, start_response):
    path = environ["PATH_INFO"]
    waiting = WAYS.get(path)
    if waiting:
        waiting(Path(environ.get("QUERY_STRING") or "."))
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]


def sleep(_directory):
    deep_inside()


def deep_inside():
    time.sleep(600)


def tidy(directory):
    """Returns when it is asked to, and cleans up."""
    try:
        deep_inside()
    finally:
        (directory / "tidied").touch()


def spin(_directory):
    """In another thread than the main one an exception only comes between two lines of Python."""
    while True:
        time.sleep(0.01)


def stubborn(_directory):
    while True:
        with contextlib.suppress(BaseException):
            time.sleep(600)


def native(_directory):
    """Holds the interpreter's lock for minutes without a look at signals."""
    sum(range(10**11))


def hold(directory):
    (directory / f"entered-{threading.get_ident()}").touch()
    while not (directory / "release").exists():
        time.sleep(0.01)


def swallow(_directory):
    """`except Exception` does not keep it."""
    while True:
        with contextlib.suppress(Exception):
            deep_inside()


WAYS = {f"/{way.__name__}": way for way in (sleep, tidy, spin, stubborn, native, hold, swallow)}
