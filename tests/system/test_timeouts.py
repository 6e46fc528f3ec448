"""Time-outs of single paths, pauses within an answer, and applications that ask for more time."""

import time
from pathlib import Path

import httpx
import pytest

from harness import Server, eventually
from harness.http import Background
from harness.raw import RawConnection

# What is late in an event loop may go on, and a stop would wait for it.
GRACE = ["--graceful-timeout", "1s"]
BOTH = pytest.mark.parametrize("interface", ["wsgi", "asgi"])


@BOTH
def test_a_path_can_have_a_time_out_of_its_own(interface: str, tmp_path: Path) -> None:
    flags = ["--timeout", "500ms", "--route-timeout", "/report=1h"]
    with Server(f"more_time:{interface}", *flags, *GRACE, workers=2) as server, Background(server.url) as background:
        report = background.get("/report/1", params={"in": str(tmp_path)})
        eventually((tmp_path / "entered").exists, "the report in the application")
        # The others are under the general one; when the second of them is over, the report has waited for longer than it.
        for _ in range(2):
            assert background.get("/reports", params={"in": str(tmp_path)}).result().status_code == 504
        (tmp_path / "go").touch()
        assert report.result().text == "whole"


@BOTH
def test_a_path_can_have_less_time(interface: str, tmp_path: Path) -> None:
    with Server(f"more_time:{interface}", *GRACE, "--route-timeout", "/quick=300ms", workers=1) as server:
        answer = httpx.get(f"{server.url}/quick", params={"in": str(tmp_path)}, timeout=60)
        assert answer.status_code == 504
        server.wait_for_log(r"late: GET /quick in worker 1")


@pytest.mark.parametrize(("interface", "how"), [("wsgi", ""), ("asgi", ""), ("asgi", "thread")])
def test_an_application_can_ask_for_more_time(interface: str, how: str, tmp_path: Path) -> None:
    with Server(f"more_time:{interface}", *GRACE, "--timeout", "500ms", workers=2) as server, Background(server.url) as background:
        server.wait_for_log(r"at import: .*no request is being worked on")
        answer = background.get("/", params={"in": str(tmp_path), "more": "3600", how: "1"})
        eventually((tmp_path / "entered").exists, "the request in the application")
        (tmp_path / "other").mkdir()
        assert background.get("/", params={"in": str(tmp_path / "other")}).result().status_code == 504
        time.sleep(0.2)
        assert not answer.done()
        (tmp_path / "go").touch()
        assert answer.result().text == "whole"


def test_more_time_is_over_too(tmp_path: Path) -> None:
    with Server("more_time:wsgi", "--timeout", "300ms") as server:
        begun = time.monotonic()
        answer = httpx.get(server.url, params={"in": str(tmp_path), "more": "1.5"}, timeout=60)
        assert answer.status_code == 504
        assert time.monotonic() - begun > 1.5


def test_an_answer_that_pauses_too_long_is_cut_off(tmp_path: Path) -> None:
    with Server("more_time:wsgi", "--pause-timeout", "500ms", workers=1) as server, RawConnection(server.url) as connection:
        connection.send(f"GET /half?in={tmp_path} HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.head().status == 200
        rest = connection.rest()
        assert b"first" in rest and not rest.endswith(b"0\r\n\r\n"), "it looks whole"
        server.wait_for_log(r"late: GET /half in worker 1 .*its answer paused too long and is cut off")
        server.wait_for_log(r"in halves")
        # The worker is there for the next one, this one or its successor.
        (tmp_path / "go").touch()
        assert httpx.get(server.url, params={"in": str(tmp_path)}, timeout=60).text == "whole"


def test_wrong_time_outs_are_explained() -> None:
    from harness import run_to_end

    finished = run_to_end("more_time:wsgi", "--route-timeout", "report=5m", "--route-timeout", "/x=soon")
    assert finished.code == 2
    assert finished.errors.count("route-timeout") >= 2 and "/report=5m" in finished.errors
