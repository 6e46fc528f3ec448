"""Clients and workers that leave: an idle stream learns of it, and a worker that got a signal takes nothing more."""

import os
import signal
import threading
from collections import Counter
from pathlib import Path

import httpx

from harness import Server, eventually
from harness.processes import is_alive
from harness.raw import RawConnection


def noted(record: Path) -> list[str]:
    return record.read_text().splitlines() if record.exists() else []


def test_an_idle_stream_ends_with_its_client(tmp_path: Path) -> None:
    """Starlette notices by itself, while the stream has nothing to send; else it would hold its slot for ever."""
    record = tmp_path / "record"
    with Server("leaving:app", "--worker-concurrency", "2", env={"RECORD": str(record)}) as server:
        for number in range(1, 5):
            with httpx.stream("GET", f"{server.url}/idle", timeout=20) as answer:
                assert next(answer.iter_raw()) == b": hello\n\n"
            eventually(lambda count=number: noted(record).count("stream ended") == count, "end of the stream")


def test_a_worker_with_sigterm_takes_nothing_more(tmp_path: Path) -> None:
    record = tmp_path / "record"
    with Server("leaving:app", workers=2, env={"RECORD": str(record)}) as server:
        statuses: Counter[int] = Counter()
        stop = threading.Event()

        def load() -> None:
            with httpx.Client(base_url=server.url, timeout=20) as client:
                while not stop.is_set():
                    statuses[client.post("/work").status_code] += 1

        threads = [threading.Thread(target=load) for _ in range(8)]
        for thread in threads:
            thread.start()
        try:
            eventually(lambda: statuses[200] > 50, "requests")
            worker = server.worker_pids()[0]
            os.kill(worker, signal.SIGTERM)
            eventually(lambda: not is_alive(worker), "end of the worker")
            before = statuses[200]
            eventually(lambda: statuses[200] > before + 50, "more requests")
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert set(statuses) == {200}
        assert noted(record) == ["shutdown"]


def test_a_status_without_a_name_has_no_reason(tmp_path: Path) -> None:
    with Server("leaving:app", env={"RECORD": str(tmp_path / "record")}) as server:
        with RawConnection(server.url) as connection:
            connection.send(b"GET /unusual HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert connection.line().rstrip("\r\n") == "HTTP/1.1 299 "
