"""No fast request waits for a slow one while another worker is free."""

import time
from pathlib import Path

import httpx
import pytest

from harness import Server, eventually
from harness.http import Background


def entered(directory: Path) -> int:
    file = directory / "entered"
    return len(file.read_text().splitlines()) if file.exists() else 0


def warm_up(url: str) -> None:
    """Many fast answers: after them handing requests out ahead of time looks most worth while."""
    with httpx.Client(base_url=url, timeout=60) as client:
        for _ in range(1000):
            assert client.get("/").status_code == 200


# Twice the same load, as the property must not depend on luck.
twice = pytest.mark.parametrize("run", [1, 2])


@twice
@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
def test_fast_requests_finish_while_a_slow_one_is_held(run: int, warm: bool, tmp_path: Path) -> None:
    """The slow request ends only when the test lets it: a fast one parked behind it could never be answered."""
    with Server("plain_wsgi:app", "--threads", "1", workers=2) as server, Background(server.url) as background:
        if warm:
            warm_up(server.url)
        slow = background.get("/hold", params={"record": str(tmp_path)})
        eventually(lambda: entered(tmp_path) == 1, "the slow request in the application")

        with httpx.Client(base_url=server.url, timeout=30) as client:
            for _ in range(20):
                assert client.get("/").text == "hello"
        together = [background.get("/") for _ in range(20)]
        assert [answer.result(30).text for answer in together] == ["hello"] * 20

        assert not slow.done()
        (tmp_path / "release").touch()
        assert slow.result(30).text == "held"


@twice
def test_a_slow_request_in_the_middle_of_fast_ones(run: int, tmp_path: Path) -> None:
    """Slow and fast arrive together, so that fast ones may already be handed to the worker that becomes slow."""
    with Server("plain_wsgi:app", "--threads", "1", workers=2) as server, Background(server.url) as background:
        warm_up(server.url)
        before = [background.get("/") for _ in range(10)]
        slow = background.get("/hold", params={"record": str(tmp_path)})
        after = [background.get("/") for _ in range(30)]
        assert [answer.result(30).text for answer in before + after] == ["hello"] * 40
        eventually(lambda: entered(tmp_path) == 1, "the slow request in the application")
        assert not slow.done()
        (tmp_path / "release").touch()
        assert slow.result(30).text == "held"


@twice
def test_one_slow_request_of_5_seconds_and_20_fast_ones(run: int, tmp_path: Path) -> None:
    """The same as a user would see it, with a clock."""
    with Server("plain_wsgi:app", "--threads", "1", workers=2) as server, Background(server.url) as background:
        slow = background.get("/slow", params={"seconds": "5", "record": str(tmp_path)})
        eventually(lambda: entered(tmp_path) == 1, "the slow request in the application")
        started = time.monotonic()
        fast = [background.get("/") for _ in range(20)]
        assert [answer.result(30).text for answer in fast] == ["hello"] * 20
        assert not slow.done(), f"the fast ones took {time.monotonic() - started:.1f} s: as long as the slow one"
        assert slow.result(30).text == "slow"


def test_both_workers_slow_then_fast_ones_wait_and_are_answered(tmp_path: Path) -> None:
    """The other side of the property: with no free worker the queue holds them, and loses none."""
    with Server("plain_wsgi:app", "--threads", "1", workers=2) as server, Background(server.url) as background:
        slow = [background.get("/hold", params={"record": str(tmp_path)}) for _ in range(2)]
        eventually(lambda: entered(tmp_path) == 2, "both workers busy")
        fast = [background.get("/") for _ in range(20)]
        (tmp_path / "release").touch()
        assert [answer.result(30).text for answer in fast] == ["hello"] * 20
        assert [answer.result(30).text for answer in slow] == ["held"] * 2


def test_asgi_awaits_do_not_block_other_requests(tmp_path: Path) -> None:
    """One worker, one hundred requests that wait inside the application, and another one is still answered."""
    with Server("plain_asgi:app", workers=1) as server, Background(server.url, at_once=110) as background:
        waiting = [background.get("/hold", params={"record": str(tmp_path)}) for _ in range(100)]
        eventually(lambda: entered(tmp_path) == 100, "all of them in the application")
        assert httpx.get(server.url, timeout=30).text == "hello"
        (tmp_path / "release").touch()
        assert [answer.result(60).text for answer in waiting] == ["held"] * 100


def test_threads_serve_at_the_same_time(tmp_path: Path) -> None:
    """`--threads 4`: four requests are in one worker at once."""
    with Server("plain_wsgi:app", "--threads", "4", workers=1) as server, Background(server.url) as background:
        held = [background.get("/hold", params={"record": str(tmp_path)}) for _ in range(4)]
        eventually(lambda: entered(tmp_path) == 4, "four requests in one worker")
        (tmp_path / "release").touch()
        assert [answer.result(30).text for answer in held] == ["held"] * 4
        assert len(set((tmp_path / "entered").read_text().split())) == 1
