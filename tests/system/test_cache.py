"""The cache of answers (--cache): what is stored, what it is used for, and how it is emptied."""

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from harness import Server, eventually
from harness.server import PROGRAM


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory):
    socket = tmp_path_factory.mktemp("cache") / "control.sock"
    with Server("cached:app", "--cache", "1MB", "--cache-max-object", "64k", "--control-socket", socket) as server:
        server.control = socket
        yield server


@pytest.fixture
def get(server: Server, request: pytest.FixtureRequest):
    """Asks for a path of this test's own."""
    path = f"{server.url}/{request.node.name.translate(str.maketrans('[]', '--'))}"
    with httpx.Client() as client:

        def get(query: str, method: str = "GET", **headers: str) -> httpx.Response:
            names = {name.replace("_", "-"): value for name, value in headers.items()}
            return client.request(method, f"{path}?{query}", headers=names)

        yield get


def told(response: httpx.Response) -> str:
    return response.headers["cache-status"]


@pytest.mark.parametrize(
    ("query", "headers", "is_stored"),
    [
        ("cache-control=max-age%3D60", {}, True),
        ("cache-control=max-age%3D60&stream=1", {}, True),
        ("cache-control=s-maxage%3D60", {}, True),
        ("cache-control=max-age%3D60,public", {"authorization": "Basic eDp5"}, True),
        ("cache-control=max-age%3D60,no-cache%3D%22set-cookie%22&set-cookie=a%3Db", {}, True),
        ("", {}, False),
        ("etag=%22a%22", {}, False),
        ("cache-control=private,max-age%3D60", {}, False),
        ("cache-control=no-store", {}, False),
        ("cache-control=max-age%3D60&set-cookie=a%3Db", {}, False),
        ("cache-control=max-age%3D60", {"authorization": "Basic eDp5"}, False),
        ("cache-control=max-age%3D60&vary=*", {}, False),
    ],
)
def test_what_is_stored(get, query: str, headers: dict, is_stored: bool) -> None:
    first, second = get(query, **headers), get(query, **headers)
    assert first.text == second.text == "0123456789"
    assert first.headers["x-asked"] == "1" and second.headers["x-asked"] == ("1" if is_stored else "2")
    assert told(first) == ("monoceros; fwd=uri-miss; ttl=60; stored" if is_stored else "monoceros; fwd=uri-miss")
    if is_stored:
        assert told(second).startswith("monoceros; hit; ttl=") and second.headers["age"] in "01"
        assert second.headers["date"] == first.headers["date"] and "set-cookie" not in second.headers
        assert second.headers["content-length"] == "10"


def test_a_part_a_head_and_a_condition_are_answered_from_what_is_stored(get) -> None:
    query = "cache-control=max-age%3D60&etag=%22a%22"
    get(query)
    part = get(query, range="bytes=2-4")
    assert (part.status_code, part.text, part.headers["content-range"]) == (206, "234", "bytes 2-4/10")
    assert get(query, range="bytes=20-").status_code == 416
    assert get(query, range="bytes=2-4", if_range='"b"').text == "0123456789"
    head = get(query, "HEAD")
    assert (head.text, head.headers["content-length"], head.headers["x-asked"]) == ("", "10", "1")
    unchanged = get(query, if_none_match='"a"')
    assert unchanged.status_code == 304 and unchanged.headers["etag"] == '"a"' and "hit" in told(unchanged)
    assert get(query, if_none_match='"b"').headers["x-asked"] == "1"


def test_it_is_asked_whether_an_answer_still_holds(get) -> None:
    query = "cache-control=no-cache&etag=%22a%22"
    get(query)
    again = get(query)
    # The application has answered 304; the client gets the body that is stored.
    assert (again.status_code, again.text, again.headers["x-asked"]) == (200, "0123456789", "2")
    assert "fwd=stale; fwd-status=304" in told(again)
    assert get(query, if_none_match='"a"').status_code == 304


def test_what_the_client_wants_counts(get) -> None:
    query = "cache-control=max-age%3D60&etag=%22a%22"
    missing = get(query, cache_control="only-if-cached")
    assert missing.status_code == 504 and missing.headers["cache-control"] == "no-store"
    get(query)
    assert "fwd=request; fwd-status=304" in told(get(query, cache_control="no-cache"))
    assert "fwd=request" in told(get(query, cache_control="no-store"))
    assert "hit" in told(get(query, cache_control="only-if-cached"))


def test_each_variant_is_stored(get) -> None:
    query = "cache-control=max-age%3D60&vary=accept-language"
    for language in ("de", "en"):
        assert "stored" in told(get(query, accept_language=language))
    for language in ("de", "EN"):
        assert "hit" in told(get(query, accept_language=language))
    assert "fwd=vary-miss" in told(get(query, accept_language="fr"))


@pytest.mark.parametrize("then", ["503", "raise"])
def test_a_stale_answer_is_better_than_an_error(get, then: str) -> None:
    query = "cache-control=max-age%3D0,stale-if-error%3D60&etag=%22a%22&then=" + then
    assert "stored" in told(get(query))
    again = get(query)
    assert (again.status_code, again.text, again.headers["x-asked"]) == (200, "0123456789", "1")
    status = 503 if then == "503" else 500
    assert told(again) == f"monoceros; fwd=stale; fwd-status={status}; ttl=0; detail=stale-if-error"
    # A stale answer is not what this one wants.
    assert get(query.replace("max-age", "must-revalidate,max-age")).status_code == 200
    assert get(query.replace("max-age", "must-revalidate,max-age")).status_code == status


def test_a_stale_answer_is_used_while_a_new_one_is_fetched(get) -> None:
    query = "cache-control=max-age%3D0,stale-while-revalidate%3D60"
    get(query)
    assert "detail=stale-while-revalidate" in told(get(query))
    eventually(lambda: int(get(query).headers["x-asked"]) > 1, "a new answer")


def test_what_is_changed_is_asked_for_again(get) -> None:
    query = "cache-control=max-age%3D60"
    get(query)
    assert told(get(query, "POST")) == "monoceros; fwd=method"
    assert "fwd=uri-miss" in told(get(query))


def test_one_asks_and_the_others_wait(get, tmp_path: Path) -> None:
    query = f"cache-control=max-age%3D60&wait={tmp_path / 'go'}"
    with ThreadPoolExecutor(8) as threads:
        running = [threads.submit(get, query) for _ in range(8)]
        eventually((tmp_path / "go.asked").exists, "the application was asked")
        (tmp_path / "go").touch()
        answers = [future.result() for future in running]
    assert {answer.headers["x-asked"] for answer in answers} == {"1"}


def test_nobody_waits_for_what_is_not_stored_and_nobody_is_stranded(server: Server, get, tmp_path: Path) -> None:
    query = f"cache-control=max-age%3D60&wait={tmp_path / 'go'}"
    path = get("x").request.url.path
    with pytest.raises(httpx.ReadTimeout):
        # The first one leaves.
        httpx.get(f"{server.url}{path}?{query}", timeout=0.3)
    with ThreadPoolExecutor(1) as threads:
        second = threads.submit(get, query)
        (tmp_path / "go").touch()
        assert second.result().text == "0123456789"


def purge(server: Server, *arguments: str) -> str:
    command = [PROGRAM, "cache", *arguments, "--control", server.control]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return done.stdout + done.stderr


def test_answers_are_removed(server: Server, get) -> None:
    query = "cache-control=max-age%3D60&cache-tag=news,front"
    url = str(get(query).request.url)
    for which in ((url,), ("--prefix", url[:-5]), ("--tag", "front"), (url.removeprefix(server.url),)):
        assert "hit" in told(get(query))
        assert purge(server, "purge", *which) == "1 answer removed\n"
        assert "fwd=uri-miss" in told(get(query))
    assert "removed" in purge(server, "purge", "--all")
    load = json.loads(purge(server, "status", "--json"))
    assert (load["event"], load["answers"], load["used"], load["size"]) == ("cache", 0, 0, 1 << 20)
    assert purge(server, "status").startswith("cache: 0 answers")
    assert "no address" in purge(server, "purge", "news")
