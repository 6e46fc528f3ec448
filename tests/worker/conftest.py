"""Builds the worker extension once per session, unless `MONOCEROS_WORKER_EXTENSION` names one."""

import os
import pathlib
import subprocess
import sys

sys.path.insert(0, os.path.dirname(__file__))


def pytest_sessionstart(session):
    if "MONOCEROS_WORKER_EXTENSION" not in os.environ:
        root = pathlib.Path(__file__).resolve().parents[2]
        subprocess.run(["cargo", "build", "--quiet", "--package", "monoceros-worker"], cwd=root, check=True)
