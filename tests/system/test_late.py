"""Requests that take too long: 504, their Python stack in the log, asked to return, and killed if they do not."""

from pathlib import Path

import httpx
import pytest

from harness import Server, eventually
from harness.http import Background


def late(path: str, end: str = "answered 504") -> str:
    return rf"late: GET {path} .*in worker \d+ for \d+\.\d s, {end}"


@pytest.mark.parametrize("way", ["tidy", "swallow"])
def test_a_late_request_is_shown_asked_and_returns(way: str, tmp_path: Path) -> None:
    with Server("late_wsgi:app", "--timeout", "1s", workers=1) as server:
        before = server.wait_for_workers(1)
        answer = httpx.get(f"{server.url}/{way}?{tmp_path}", headers={"X-Request-ID": "ab"}, timeout=30)
        assert answer.status_code == 504
        server.wait_for_log(rf"late: GET /{way} \(request ab\) in worker 1 for \d+\.\d s, answered 504:")
        server.wait_for_log(r"File \".*late_wsgi\.py\", line \d+, in deep_inside\n.* time\.sleep\(600\)$")
        server.wait_for_log("worker 1 goes on serving: its late threads have returned")
        assert httpx.get(f"{server.url}/quick", timeout=30).text == str(before[0])
        assert server.worker_pids() == before
        assert way != "tidy" or (tmp_path / "tidied").exists()
        assert "DeadlineExceeded" not in server.log()


@pytest.mark.parametrize(("way", "function"), [("stubborn", "stubborn"), ("native", "native")])
def test_one_that_does_not_return_is_killed(way: str, function: str) -> None:
    """`native` holds the interpreter's lock: its stack comes without the interpreter's help."""
    with Server("late_wsgi:app", "--timeout", "1s", workers=1) as server:
        before = server.wait_for_workers(1)
        assert httpx.get(f"{server.url}/{way}", timeout=30).status_code == 504
        server.wait_for_log(rf"File \".*late_wsgi\.py\", line \d+, in {function}$")
        server.wait_for_log("worker 1 is killed and replaced: a late thread did not return")
        (after,) = server.wait_for_workers(1, other_than=before)
        assert httpx.get(f"{server.url}/quick", timeout=30).text == str(after)


def test_exactly_the_late_thread_is_shown_and_asked(tmp_path: Path) -> None:
    with (
        Server("late_wsgi:app", "--timeout", "3s", "--threads", "4", workers=1) as server,
        Background(server.url) as background,
    ):
        before = server.wait_for_workers(1)
        # Three of four threads are taken: whichever is left serves the late one, and not always the main thread.
        spinning = background.request("GET", "/spin")
        eventually(lambda: len(server.worker_pids()) == 1, "the worker")
        assert spinning.result(60).status_code == 504
        server.wait_for_log(late("/spin"))
        holding = [background.request("GET", f"/hold?{tmp_path}") for _ in range(2)]
        eventually(lambda: len(list(tmp_path.glob("entered-*"))) == 2, "two requests in the application")
        (tmp_path / "release").touch()
        assert [answer.result(60).status_code for answer in holding] == [200, 200]
        assert server.worker_pids() == before
        log = server.log()
        assert "in spin" in log
        assert "in hold" not in log


def test_a_late_task_is_shown_with_all_that_it_awaits() -> None:
    with Server("late_asgi:app", "--timeout", "1s", "--graceful-timeout", "1s", workers=1) as server:
        before = server.wait_for_workers(1)
        assert httpx.get(f"{server.url}/deep", timeout=30).status_code == 504
        server.wait_for_log(late("/deep"))
        server.wait_for_log("in innermost")
        log = server.log()
        places = [log.index(f"in {name}\n") for name in ("app", "outermost", "middle", "innermost")]
        assert places == sorted(places)
        assert "await asyncio.sleep(600)" in log
        assert httpx.get(f"{server.url}/", timeout=30).text == "hello"
        assert server.worker_pids() == before


def test_what_blocks_an_event_loop_is_shown() -> None:
    with Server("late_asgi:app", "--timeout", "1s", workers=1) as server:
        assert httpx.get(f"{server.url}/blocked", timeout=30).status_code == 504
        server.wait_for_log(late("/blocked"))
        server.wait_for_log(r"the event loop, most recent call last:(\n.*)+ in blocks_the_loop")


def test_one_of_two_workers_hangs_and_clients_of_the_other_never_notice() -> None:
    with (
        Server("late_wsgi:app", "--timeout", "2s", workers=2) as server,
        Background(server.url) as background,
    ):
        before = server.wait_for_workers(2)
        hanging = background.request("GET", "/stubborn")
        answers = []
        while not hanging.done():
            answers.append(httpx.get(f"{server.url}/quick", timeout=30).status_code)
        assert hanging.result(60).status_code == 504
        assert set(answers) == {200}
        server.wait_for_log("in stubborn")
        eventually(lambda: len(set(server.worker_pids()) & set(before)) == 1, "the hung worker is gone")
        assert httpx.get(f"{server.url}/quick", timeout=30).status_code == 200
