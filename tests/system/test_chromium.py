"""A real browser: page, static files, fetch upload, WebSocket and server-sent events, over HTTPS with HTTP/2."""

import os
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import sync_playwright

from harness import Server
from harness.server import APPS

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="Chromium is not installed")

FLAGS = [
    "--no-sandbox",
    "--disable-quic",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    # No requests of its own to anybody.
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
    "--no-first-run",
    "--no-proxy-server",
    "--ignore-certificate-errors",
]


@pytest.fixture(scope="module")
def server(serve_module) -> Server:
    return serve_module(
        "starlette_app:app", "--static-dir", f"/static={APPS / 'browser_static'}", "--max-body", "20MB", workers=2
    )


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS, timeout=90_000)
        yield browser
        browser.close()


@pytest.fixture(params=["https", "http"])
def page(request: pytest.FixtureRequest, server: Server, browser) -> Iterator[object]:
    context = browser.new_context(ignore_https_errors=True)
    page = context.new_page()
    page.set_default_timeout(60_000)
    failures: list[str] = []
    page.on("pageerror", lambda error: failures.append(str(error)))
    page.on("requestfailed", lambda failed: failures.append(f"{failed.url}: {failed.failure}"))
    page.goto((server.https_url if request.param == "https" else server.url).replace("127.0.0.1", "localhost") + "/")
    yield page
    context.close()
    # An EventSource or WebSocket that the test itself closes is no failure.
    assert [failure for failure in failures if "/ticks" not in failure] == []


def protocols(page) -> set[str]:
    return set(
        page.evaluate(
            "performance.getEntries().filter(e => e.entryType === 'navigation' || e.entryType === 'resource')"
            ".map(e => e.nextHopProtocol).filter(p => p)"
        )
    )


def test_page_with_static_files(page) -> None:
    assert page.title() == "System test"
    # Style and script are in effect, not only delivered.
    colour = page.evaluate("getComputedStyle(document.querySelector('h1')).color")
    assert colour == "rgb(1, 2, 3)"
    assert page.evaluate("typeof upload") == "function"
    assert protocols(page) == {"h2" if page.url.startswith("https") else "http/1.1"}


def test_upload(page) -> None:
    done = page.evaluate("upload(10_000_000)")
    assert done["answer"] == {"length": 10_000_000, "sha256": done["expected"]}


def test_websocket(page) -> None:
    words = ["hello", "wörld", "x" * 100_000]
    done = page.evaluate("words => socket(words)", words)
    assert done["received"] == words
    assert done["code"] == 1000
    assert "permessage-deflate" in done["extensions"]


def test_events(page) -> None:
    assert page.evaluate("events(5)") == [f"tick {number}" for number in range(5)]


def test_many_fetches_at_once(page) -> None:
    statuses = page.evaluate(
        "Promise.all([...Array(100).keys()].map(n => fetch(`/facts?n=${n}`).then(r => r.json()).then(f => f.version)))"
    )
    assert statuses == ["2" if page.url.startswith("https") else "1.1"] * 100


def test_cached_static_file_is_revalidated(page) -> None:
    """The second load asks with If-None-Match and gets 304; the browser shows 200 from its cache."""
    page.evaluate("fetch('/static/page.css').then(r => r.text())")
    second = page.evaluate("fetch('/static/page.css', {cache: 'no-cache'}).then(async r => [r.status, (await r.text()).length])")
    assert second[0] == 200 and second[1] > 10
