"""A minute of misfortune under a constant load: what clients get, and what was executed, is checked request by request."""

import asyncio
import collections
import contextlib
import hashlib
import os
import random
import signal
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from harness import Server
from harness.memory import Starved

RATE = 200
WORKERS = 4
TIMEOUT = 2


@dataclass
class Asked:
    """One request and its answer."""

    number: int
    method: str
    body: bytes
    status: int = 0
    answer: bytes = b""
    error: str = ""
    seconds: float = 0.0


class Client:
    """Sends requests at their time, not when an answer has come, over as many connections as that takes."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self.asked: list[Asked] = []

    async def run(self, seconds: float, chance: random.Random) -> None:
        begun = time.monotonic()
        tasks = []
        for number in range(int(seconds * RATE)):
            method = chance.choice(["GET", "POST"])
            body = chance.randbytes(chance.choice([10, 1000, 200_000])) if method == "POST" else b""
            asked = Asked(number, method, body)
            self.asked.append(asked)
            pause = chance.choices([0, 5, 50], [80, 15, 5])[0]
            tasks.append(asyncio.create_task(self._ask(asked, pause)))
            await asyncio.sleep(max(0.0, begun + (number + 1) / RATE - time.monotonic()))
        await asyncio.gather(*tasks)
        for _, writer in self._idle:
            writer.close()

    async def _ask(self, asked: Asked, pause: int) -> None:
        begun = time.monotonic()
        try:
            async with asyncio.timeout(60):
                await self._exchange(asked, pause)
        except (OSError, EOFError, TimeoutError) as error:
            asked.error = repr(error)
        asked.seconds = time.monotonic() - begun

    async def _exchange(self, asked: Asked, pause: int) -> None:
        reader, writer = self._idle.pop() if self._idle else await asyncio.open_connection("127.0.0.1", self._port)
        head = f"{asked.method} /?number={asked.number}&pause={pause} HTTP/1.1\r\nHost: localhost\r\n"
        head += f"Content-Length: {len(asked.body)}\r\n\r\n" if asked.body else "\r\n"
        writer.write(head.encode() + asked.body)
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        asked.status = int(lines[0].split()[1])
        asked.answer = await reader.readexactly(int(headers["content-length"]))
        if headers.get("connection") == "close":
            writer.close()
        else:
            self._idle.append((reader, writer))


@dataclass
class Misfortune:
    """Does harm to the server; remembers to which processes."""

    server: Server
    site: Path
    starved: Starved
    chance: random.Random
    killed: list[int] = field(default_factory=list)
    hung: list[int] = field(default_factory=list)
    out_of_memory: list[int] = field(default_factory=list)
    reloads: int = 0

    async def run(self) -> None:
        await asyncio.gather(
            self._every(0.2, self._kill), self._every(3.1, self._hang), self._every(2.3, self._starve), self._every(5, self._reload)
        )

    async def _every(self, seconds: float, act: "collections.abc.Callable[[], None]") -> None:
        while True:
            await asyncio.sleep(seconds)
            act()

    def _victim(self) -> int | None:
        workers = self.server.worker_pids()
        return self.chance.choice(workers) if workers else None

    def _signal(self, number: int) -> int | None:
        victim = self._victim()
        with contextlib.suppress(ProcessLookupError):
            if victim is not None:
                os.kill(victim, number)
                return victim
        return None

    def _kill(self) -> None:
        self.killed += filter(None, [self._signal(signal.SIGKILL)])

    def _hang(self) -> None:
        self.hung += filter(None, [self._signal(signal.SIGSTOP)])

    def _starve(self) -> None:
        if not self.starved.is_possible:
            return
        victim = self._victim()
        if victim is not None and self.starved.put(victim):
            self.out_of_memory.append(victim)

    def _reload(self) -> None:
        self.reloads += 1
        write_version(self.site, self.reloads, is_broken=self.reloads % 2 == 0)
        os.kill(self.server.pid, signal.SIGHUP)


def write_version(site: Path, version: int, *, is_broken: bool) -> None:
    # Workers that start between a broken version and the next reload must find the old one: it is their own business.
    fresh = site / "fresh.txt"
    fresh.write_text(f"VERSION = {version}\n" + ("import a_module_that_is_missing\n" if is_broken else ""))
    fresh.rename(site / "chaos_version.py")


@pytest.mark.parametrize(("interface", "seconds"), [("wsgi", 60), ("asgi", 20)])
def test_chaos(interface: str, seconds: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journal = tmp_path / "journal"
    journal.touch()
    write_version(tmp_path, 0, is_broken=False)
    flags = ["--preload", "--timeout", f"{TIMEOUT}s", "--queue-timeout", "30s", "--graceful-timeout", "5s", "--pythonpath", tmp_path]
    environment = {"CHAOS_JOURNAL": str(journal), "PYTHONDONTWRITEBYTECODE": "1"}
    seed = int(os.environ.get("SEED", time.time_ns() % 1_000_000))
    with Server(f"chaos_app:{interface}", *flags, workers=WORKERS, env=environment, ready_within=120) as server, Starved() as starved:
        client = Client(server.port())
        misfortune = Misfortune(server, tmp_path, starved, random.Random(seed))

        async def everything() -> None:
            harm = asyncio.create_task(misfortune.run())
            await client.run(seconds, random.Random(seed + 1))
            harm.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await harm

        asyncio.run(everything())
        server.wait_for_workers(WORKERS)
        log = server.log()
    judge(client.asked, misfortune, journal, log, seed, capsys)


def judge(
    asked: list[Asked], misfortune: Misfortune, journal: Path, log: str, seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    entered: dict[int, list[int]] = collections.defaultdict(list)
    left: dict[int, list[int]] = collections.defaultdict(list)
    for line in journal.read_text().splitlines():
        what, number, pid = line.split()
        (entered if what == "enter" else left)[int(number)].append(int(pid))
    dying = {*misfortune.killed, *misfortune.hung, *misfortune.out_of_memory}
    statuses = collections.Counter(request.status for request in asked)
    ordered = sorted(request.seconds for request in asked if request.status == 200)
    with capsys.disabled():
        print(
            f"\nchaos, seed {seed}: {len(asked)} requests, {dict(statuses)}; "
            f"{sum(len(runs) > 1 for runs in entered.values())} ran again on another worker; "
            f"killed {len(misfortune.killed)}, hung {len(misfortune.hung)}, "
            f"out of memory {len(misfortune.out_of_memory) if misfortune.starved.is_possible else 'impossible here'}, "
            f"reloads {misfortune.reloads}; median {statistics.median(ordered) * 1000:.1f} ms, "
            f"p99 {ordered[len(ordered) * 99 // 100] * 1000:.1f} ms"
        )
    assert [request for request in asked if request.error] == []
    for request in asked:
        runs = entered[request.number]
        what = f"{request.method} {request.number} ({request.status}), ran in {runs}, seed {seed}"
        if request.method == "POST":
            assert len(runs) <= 1, f"executed twice: {what}"
        if request.status == 200:
            expected = f"{request.method} {request.number} {hashlib.sha256(request.body).hexdigest()} ".encode()
            assert request.answer.startswith(expected), f"wrong body: {what}: {request.answer!r}"
        elif request.status == 503:
            assert runs == [], f"told that it was not executed: {what}"
        else:
            assert request.status in (502, 504), f"{what}\n{request.answer!r}"
            assert runs and runs[-1] in dying and runs[-1] not in left[request.number], f"failed without a reason: {what}\n{log[-5000:]}"
    # Of code that cannot be imported nothing is ever seen.
    versions = {int(request.answer.split()[-1]) for request in asked if request.status == 200}
    assert all(version % 2 == 1 or version == 0 for version in versions), versions
    assert len(versions) > 2 or misfortune.reloads < 4, f"no reload has come through: {versions}"
    assert statuses[503] == 0, statuses
    assert statuses[200] > len(asked) * 0.9, statuses
