"""`monoceros stacks` shows where the workers are; the log shows what blocks an event loop."""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from harness import Server, eventually
from harness.http import Background
from harness.server import PROGRAM


@contextmanager
def serving(app: str, tmp_path: Path, *options: object, workers: int = 1) -> Iterator[Server]:
    with Server(app, "--control-socket", tmp_path / "control.sock", *options, workers=workers) as server:
        server.wait_for_workers(workers)
        yield server


def stacks(tmp_path: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    words = [str(PROGRAM), "stacks", *map(str, arguments), "--control", str(tmp_path / "control.sock")]
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)


def told(tmp_path: Path, *arguments: object) -> dict[int, dict]:
    reply = json.loads(stacks(tmp_path, *arguments, "--json").stdout)
    return {worker["worker"]: worker for worker in reply["workers"]}


def serves(path: str, stack: dict) -> bool:
    return stack.get("request", {}).get("path") == path


def functions(stack: dict) -> list[str]:
    """Of the application; the standard library's around it may have any names."""
    own = [frame for frame in stack["frames"] if Path(frame["file"]).name.startswith("stack_")]
    return [frame["function"] for frame in own]


def test_threads_with_their_requests(tmp_path: Path) -> None:
    with (
        serving("stack_wsgi:app", tmp_path, "--threads", "3") as server,
        Background(server.url) as background,
    ):
        held = background.request("GET", f"/hold?{tmp_path}", headers={"X-Request-ID": "ab"})
        eventually(lambda: list(tmp_path.glob("held-*")), "a request in the application")
        (worker,) = told(tmp_path).values()
        assert [worker["pid"]] == server.worker_pids() and worker["state"] == "serving" and "note" not in worker
        (serving_it,) = [stack for stack in worker["threads"] if "request" in stack]
        request = serving_it["request"]
        assert (request["method"], request["path"], request["id"]) == ("GET", "/hold", "ab") and request["since"] > 0
        assert functions(serving_it) == ["app", "waits_for_a_file"]
        assert 'waits_for_a_file(directory / "release")' in [frame["source"] for frame in serving_it["frames"]]
        shown = stacks(tmp_path, 1)
        assert shown.returncode == 0
        assert re.search(r"^  GET /hold \(request ab\) for \d+\.\d s, thread ", shown.stdout, re.MULTILINE)
        (tmp_path / "release").touch()
        assert held.result(60).status_code == 200


def test_tasks_deep_in_a_chain(tmp_path: Path) -> None:
    with (
        serving("stack_asgi:app", tmp_path) as server,
        Background(server.url) as background,
    ):
        held = background.request("GET", f"/deep?{tmp_path}")
        eventually((tmp_path / "entered").exists, "a request in the application")
        (worker,) = told(tmp_path).values()
        (task,) = worker["tasks"]
        assert serves("/deep", task)
        assert functions(task) == ["app", "outermost", "innermost"]
        assert not any("request" in stack for stack in worker["threads"])
        (tmp_path / "release").touch()
        assert held.result(60).status_code == 200
        (worker,) = told(tmp_path, 1).values()
        assert worker["tasks"] == []


def test_a_hung_worker_beside_a_healthy_one(tmp_path: Path) -> None:
    with (
        serving("stack_wsgi:app", tmp_path, workers=2) as server,
        Background(server.url) as background,
    ):
        background.request("POST", f"/native?{tmp_path}")
        eventually(lambda: list(tmp_path.glob("native-*")), "a worker that hangs")
        background.request("GET", f"/hold?{tmp_path}")
        eventually(lambda: list(tmp_path.glob("held-*")), "a request in the other one")
        workers = told(tmp_path).values()
        (hung,) = [worker for worker in workers if "note" in worker]
        (healthy,) = [worker for worker in workers if "note" not in worker]
        assert "did not answer" in hung["note"]
        assert any(serves("/native", stack) and functions(stack)[-1] == "app" for stack in hung["threads"])
        assert any(serves("/hold", stack) and "waits_for_a_file" in functions(stack) for stack in healthy["threads"])
        assert hung["pid"] in server.worker_pids() and healthy["pid"] in server.worker_pids()
        (tmp_path / "release").touch()
        os.kill(hung["pid"], signal.SIGKILL)


def test_a_worker_that_does_not_exist(tmp_path: Path) -> None:
    with serving("stack_wsgi:app", tmp_path):
        refused = stacks(tmp_path, 77)
        assert refused.returncode == 1 and "there is no worker 77" in refused.stderr


def test_a_blocked_event_loop_is_shown_once_and_goes_on(tmp_path: Path) -> None:
    # Its route has more time than the others: that counts for the loop, too.
    limits = ("--stall-timeout", "500ms", "--timeout", "500ms", "--route-timeout", "/blocked=60s")
    with serving("stack_asgi:app", tmp_path, *limits) as server:
        before = server.worker_pids()
        assert httpx.get(f"{server.url}/blocked?3", timeout=60).status_code == 200
        server.wait_for_log(r"the event loop of worker 1 goes on after \d+\.\d s")
        log = server.log()
        shown = r"warn\w* +stall: the event loop of worker 1 is blocked for 0\.\d s, with 1 request in it:"
        assert len(re.findall("stall: ", log)) == 1, log
        assert re.search(shown, log, re.IGNORECASE), log
        assert log.index("in blocks_the_loop") < log.index("goes on after")
        assert "time.sleep(seconds)" in log
        assert server.worker_pids() == before


def test_a_loop_that_waits_is_not_blocked(tmp_path: Path) -> None:
    with (
        serving("stack_asgi:app", tmp_path, "--stall-timeout", "500ms", "--timeout", "60s") as server,
        Background(server.url) as background,
    ):
        held = background.request("GET", f"/deep?{tmp_path}")
        eventually((tmp_path / "entered").exists, "a request in the application")
        begun = time.monotonic()
        # Longer than the limit; that nothing is said in this time is the point.
        eventually(lambda: time.monotonic() - begun > 2, "some time")
        (tmp_path / "release").touch()
        assert held.result(60).status_code == 200
        assert "stall: " not in server.log()


def test_a_blocked_loop_that_holds_half_an_answer_is_replaced(tmp_path: Path) -> None:
    with serving("stack_asgi:app", tmp_path, "--timeout", "2s", "--stall-timeout", "0") as server:
        before = server.worker_pids()
        received = b""
        try:
            with httpx.stream("GET", f"{server.url}/half?600", timeout=60) as answer:
                for piece in answer.iter_bytes():
                    received += piece
            raise AssertionError("the answer has an end")
        except httpx.RemoteProtocolError:
            assert received == b"half"
        server.wait_for_log("its event loop is blocked for too long")
        assert "stall: " not in server.log()
        (after,) = server.wait_for_workers(1, other_than=before)
        assert httpx.get(f"{server.url}/", timeout=60).text == "hello" and after not in before
