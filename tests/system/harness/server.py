"""The program under test, started as its users start it."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import processes
from .processes import eventually

ROOT = Path(__file__).resolve().parents[3]
APPS = ROOT / "tests" / "system" / "apps"
PROGRAM = Path(os.environ.get("SYSTEM_TEST_PROGRAM", ROOT / "target" / "debug" / "monoceros"))

# Every process of one run carries this variable, so that none can be left behind unnoticed.
RUN_VARIABLE = "SYSTEM_TEST_RUN"

_LISTENING = re.compile(r"listening on (\S+)")
_READY = re.compile(r"\bready\b")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def _environment(run: str, extra: Mapping[str, str]) -> dict[str, str]:
    # Settings of the person who runs the tests must not leak into the program under test.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MONOCEROS_")}
    kept.pop("WEB_CONCURRENCY", None)
    # The apps of the tests have to find their frameworks; printing must not wait for a full buffer.
    return {**kept, "PYTHONUNBUFFERED": "1", RUN_VARIABLE: run, **extra}


@dataclass(frozen=True)
class Finished:
    """A run of the program that came to its end by itself."""

    code: int
    output: str
    errors: str
    leftovers: list[int]


def run_to_end(
    *arguments: object,
    cwd: Path = APPS,
    env: Mapping[str, str] | None = None,
    timeout: float = processes.PATIENCE,
    python: str | None = sys.executable,
) -> Finished:
    """Runs the program where it is expected to end by itself: errors, `check`, `--version`."""
    run = uuid.uuid4().hex
    command = [str(PROGRAM), *map(str, arguments)]
    if python:
        command += ["--python", python]
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command, cwd=cwd, env=_environment(run, env or {}), stdin=subprocess.DEVNULL, stdout=output, stderr=errors
        )
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            errors.seek(0)
            raise AssertionError(
                f"{command} did not end within {timeout:g} s; it wrote:\n{errors.read().decode(errors='replace')}"
            ) from None
        deadline = time.monotonic() + 5
        while (leftovers := processes.carrying(RUN_VARIABLE, run)) and time.monotonic() < deadline:
            time.sleep(0.02)
        output.seek(0)
        errors.seek(0)
        return Finished(
            code,
            output.read().decode(errors="replace"),
            _COLOUR.sub("", errors.read().decode(errors="replace")),
            leftovers,
        )


class Server:
    """Context manager around one running program.

    Leaving it stops the program with SIGTERM and fails the test unless the program ends with code 0 and leaves no
    process behind. A test that ends the program itself (SIGKILL) says so with `expect_clean_stop = False`.
    """

    def __init__(
        self,
        app: str | None,
        *arguments: object,
        binds: Sequence[str] = ("http://127.0.0.1:0",),
        workers: int | None = 1,
        cwd: Path = APPS,
        env: Mapping[str, str] | None = None,
        python: str | None = sys.executable,
        ready_within: float = 60.0,
    ) -> None:
        self.run = uuid.uuid4().hex
        self.expect_clean_stop = True
        self._binds = list(binds)
        self._ready_within = ready_within
        self._directory = tempfile.TemporaryDirectory(prefix="monoceros-test-")
        self.directory = Path(self._directory.name)
        self._log_path = self.directory / "stderr.log"
        self._output_path = self.directory / "stdout.log"
        self._command = [str(PROGRAM), *([app] if app else [])]
        for bind in self._binds:
            self._command += ["--bind", bind.format(directory=self.directory)]
        if workers is not None:
            self._command += ["--workers", str(workers)]
        if python:
            self._command += ["--python", python]
        self._command += [str(argument) for argument in arguments]
        self._cwd = cwd
        self._env = _environment(self.run, env or {})
        self.process: subprocess.Popen[bytes] | None = None

    # Start and stop

    def __enter__(self) -> "Server":
        with self._log_path.open("wb") as log, self._output_path.open("wb") as output:
            self.process = subprocess.Popen(
                self._command,
                cwd=self._cwd,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=log,
                # Its own process group: Ctrl-C in the terminal of the tests is not meant for it.
                start_new_session=True,
            )
        try:
            self._wait_until_ready()
        except BaseException:
            self._kill_everything()
            self._directory.cleanup()
            raise
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        try:
            if kind is not None:
                # The test has failed already: show the log, do not hide the reason behind a second failure.
                print(f"--- log of the program ---\n{self.log()}", file=sys.stderr)
            elif self.expect_clean_stop:
                self.stop()
        finally:
            self._kill_everything()
            self._directory.cleanup()

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + self._ready_within
        while True:
            log = self.log()
            if len(_LISTENING.findall(log)) >= len(self._binds) and _READY.search(log):
                return
            assert self.process is not None
            code = self.process.poll()
            if code is not None:
                raise AssertionError(f"the program ended with {code} instead of serving:\n{self.log()}")
            if time.monotonic() > deadline:
                raise AssertionError(f"not ready within {self._ready_within:g} s: {self._command}\n{log}")
            time.sleep(0.01)

    def stop(self, signal_number: int = signal.SIGTERM, timeout: float = 40.0) -> float:
        """Stops the program and returns the seconds it took. Fails unless it ends with 0 and leaves nothing."""
        assert self.process is not None
        started = time.monotonic()
        if self.process.poll() is None:
            self.process.send_signal(signal_number)
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"did not stop within {timeout:g} s:\n{self.log()}") from None
        seconds = time.monotonic() - started
        assert code == 0, f"stopped with exit code {code}:\n{self.log()}"
        self.expect_nothing_left()
        return seconds

    def expect_nothing_left(self, within: float = 2.0) -> None:
        """Fails if a process of this run still lives after `within` seconds."""
        deadline = time.monotonic() + within
        while left := processes.carrying(RUN_VARIABLE, self.run):
            if time.monotonic() > deadline:
                raise AssertionError(f"left behind:\n{processes.describe(left)}\nlog:\n{self.log()}")
            time.sleep(0.01)

    def _kill_everything(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for pid in processes.carrying(RUN_VARIABLE, self.run):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    # What it says

    def log(self) -> str:
        """Everything on stderr and what the workers printed on stdout so far, without colours."""
        return _COLOUR.sub("", self._log_path.read_text(errors="replace") + self._worker_output())

    def _worker_output(self) -> str:
        lines = self.output().splitlines(keepends=True)
        return "".join(line for line in lines if re.match(r"(w\d+|app) \| ", line))

    def output(self) -> str:
        """Everything on stdout so far."""
        return self._output_path.read_text(errors="replace")

    def wait_for_log(self, pattern: str, timeout: float = processes.PATIENCE) -> re.Match[str]:
        """Waits until a line of the log matches."""
        try:
            return eventually(lambda: re.search(pattern, self.log(), re.MULTILINE), f"log line /{pattern}/", timeout)
        except AssertionError as error:
            raise AssertionError(f"{error}\nlog:\n{self.log()}") from None

    # Where it listens

    @property
    def listeners(self) -> list[str]:
        """`http://127.0.0.1:8000`, `https://127.0.0.1:8443`, `unix:/path`, in the order announced."""
        return [address.rstrip(",.)") for address in _LISTENING.findall(self.log())]

    def _first(self, scheme: str) -> str:
        for address in self.listeners:
            if address.startswith(scheme):
                return address.rstrip("/")
        raise AssertionError(f"no {scheme} listener among {self.listeners}")

    @property
    def url(self) -> str:
        """Base URL of the plain HTTP listener."""
        return self._first("http:")

    @property
    def https_url(self) -> str:
        return self._first("https:")

    @property
    def socket_path(self) -> str:
        return self._first("unix:").removeprefix("unix:")

    def port(self, scheme: str = "http") -> int:
        return int(self._first(f"{scheme}:").rpartition(":")[2])

    # Its processes

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def worker_pids(self) -> list[int]:
        """The workers: children of the zygote, which is the program's child."""
        return [worker for zygote in processes.children(self.pid) for worker in processes.children(zygote)]

    def wait_for_workers(self, count: int, other_than: Sequence[int] = ()) -> list[int]:
        """Waits until there are `count` workers, none of them in `other_than`."""

        def workers() -> list[int] | None:
            pids = self.worker_pids()
            return pids if len(pids) == count and not set(pids) & set(other_than) else None

        return eventually(workers, f"{count} workers other than {list(other_than)}")
