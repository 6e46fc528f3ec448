"""A mock of the supervisor: starts a zygote through the real `boot.py` and speaks the control protocol with it.

    with Zygote(app="hello", directory=tmp_path) as zygote:
        worker = zygote.fork(1)
        assert worker.get("/").status == 200
"""

from __future__ import annotations

import array
import collections
import json
import os
import pathlib
import select
import signal
import socket
import subprocess
import sys
import time

import front

SOURCE = pathlib.Path(__file__).resolve().parents[2] / "crates" / "worker" / "src"
MESSAGE_MAX = 192 << 10


class ForkedWorker(front.Worker):
    """A worker that a zygote has forked: only the link and the page are ours."""

    def __init__(self, zygote: Zygote, number: int):
        super().__init__(None, cells=64)
        self.zygote = zygote
        self.number = number
        self.socket, self.far = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.setblocking(False)

    def descriptors_for_fork(self) -> list[int]:
        log = self.log_file.fileno()
        return [self.far.fileno(), self.page.descriptor, log, log, log]

    def exited(self, timeout: float = front.TIMEOUT) -> dict:
        """The status in the Exited event."""
        return self.zygote.wait_event("exited", timeout, worker=self.number)["status"]

    def close(self) -> None:
        self.socket.close()
        self.page.close()
        self.log_file.close()


class Zygote:
    """`python`: the interpreter. Every other keyword is a field of `zygote::WorkerSettings`."""

    def __init__(self, directory, *, configure: bool = True, version: int = front.VERSION, environment=None,
                 python: str = sys.executable, **settings):
        unknown = settings.keys() - front.SETTINGS.keys()
        assert not unknown, f"no such settings: {unknown}"
        self.settings = {**front.SETTINGS, **settings}
        self.version = version
        self.events: collections.deque[dict] = collections.deque()
        self.workers: list[ForkedWorker] = []
        self.control, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.log_path = pathlib.Path(directory) / "zygote.log"
        extension = os.open(front.extension_path(), os.O_RDONLY)
        environ = {**os.environ, **(environment or {}), "MONOCEROS_EXTENSION_FD": str(extension),
                   "MONOCEROS_CONTROL_FD": str(far.fileno()), "PYTHONDONTWRITEBYTECODE": "1"}
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                [python, "-c", (SOURCE / "boot.py").read_text()], cwd=directory, env=environ,
                pass_fds=[extension, far.fileno()], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )
        far.close()
        os.close(extension)
        self.configure = configure

    def __enter__(self) -> Zygote:
        if self.configure:
            self.started = self.wait_event("started")
            self.send({"do": "configure", "version": self.version, "settings": self.settings})
        return self

    def __exit__(self, *_) -> None:
        self.control.close()
        try:
            self.process.wait(10)
        finally:
            self.process.kill()
            self.process.wait()
            for worker in self.workers:
                worker.close()

    def send(self, message: dict, descriptors=()) -> None:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        self.control.sendmsg([json.dumps(message).encode()], rights)

    def event(self, timeout: float = front.TIMEOUT) -> dict | None:
        """The next event; `None` at the end of the control socket."""
        if not select.select([self.control], [], [], timeout)[0]:
            raise front.TimedOut(f"no event from the zygote\n{self.log()}")
        data = self.control.recv(MESSAGE_MAX)
        return json.loads(data) if data else None

    def wait_event(self, name: str, timeout: float = front.TIMEOUT, **fields) -> dict:
        """The next event of this name with these fields; others are kept for later."""

        def matches(event):
            return event["event"] == name and fields.items() <= event.items()

        for event in self.events:
            if matches(event):
                self.events.remove(event)
                return event
        deadline = time.monotonic() + timeout
        while True:
            event = self.event(max(0.0, deadline - time.monotonic()))
            assert event is not None, f"the zygote ended while waiting for {name}\n{self.log()}"
            if matches(event):
                return event
            self.events.append(event)

    def fork(self, number: int, boot: bool = True) -> ForkedWorker:
        worker = ForkedWorker(self, number)
        self.workers.append(worker)
        self.send({"do": "fork", "worker": number}, worker.descriptors_for_fork())
        worker.far.close()
        worker.pid = self.wait_event("forked", worker=number)["pid"]
        if boot:
            worker.boot()
        return worker

    def signal(self, number: int, which: signal.Signals) -> None:
        self.send({"do": "signal", "worker": number, "signal": int(which)})

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")
