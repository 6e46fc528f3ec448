"""Requests that stay where they are until a file is there."""

import os
import time
from pathlib import Path


def app(environ, start_response):
    directory = Path(environ["QUERY_STRING"])
    path = environ["PATH_INFO"]
    if path == "/native":
        (directory / f"native-{os.getpid()}").touch()
        # Keeps the interpreter's lock for minutes without a look at signals.
        sum(range(10**11))
    if path == "/hold":
        (directory / f"held-{os.getpid()}").touch()
        waits_for_a_file(directory / "release")
    start_response("200 OK", [])
    return [str(os.getpid()).encode()]


def waits_for_a_file(path):
    while not path.exists():
        time.sleep(0.01)
