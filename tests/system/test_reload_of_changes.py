"""`--reload`: the server notices that the code has changed, and reloads by itself, once per change."""

import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from harness import Server, eventually

CODE = """
import shop.words
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [shop.words.WORD]
"""


def save(file: Path, text: str) -> None:
    """As editors do it: the new text under another name, which then takes the place of the old one."""
    fresh = file.with_name(f".{file.name}.fresh")
    fresh.write_text(text)
    fresh.rename(file)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "__init__.py").touch()
    (tmp_path / "shop" / "words.py").write_text("WORD = b'one'")
    (tmp_path / "site_app.py").write_text(CODE)
    return tmp_path


def log_of(server: Server) -> str:
    """Its log so far; also before it has been started."""
    try:
        return server.log()
    except FileNotFoundError:
        return ""


def serving(site: Path, *flags: object) -> Server:
    return Server("site_app:app", "--reload", *flags, cwd=site, env={"PYTHONDONTWRITEBYTECODE": "1"})


@pytest.fixture
def server(site: Path) -> Iterator[Server]:
    with serving(site) as server:
        yield server


def answers(server: Server, word: str) -> None:
    eventually(lambda: httpx.get(server.url, timeout=30).text == word, f"the answer {word!r}")


def reloads(server: Server) -> list[str]:
    return re.findall(r"reloading: (.*)", server.log())


def test_a_file_that_is_saved_by_rename(site: Path, server: Server) -> None:
    save(site / "shop" / "words.py", "WORD = b'two'")
    answers(server, "two")
    assert reloads(server) == ["shop/words.py has changed"]


def test_a_new_file_in_a_new_directory(site: Path, server: Server) -> None:
    (site / "shop" / "more").mkdir()
    save(site / "shop" / "more" / "__init__.py", "WORD = b'more'")
    server.wait_for_log("reloading: shop/more/__init__.py has changed")
    server.wait_for_log("reload: generation 2 serves")
    save(site / "shop" / "words.py", "from shop.more import WORD")
    answers(server, "more")
    save(site / "shop" / "more" / "__init__.py", "WORD = b'even more'")
    answers(server, "even more")


def test_broken_code_changes_nothing_until_it_is_mended(site: Path, server: Server) -> None:
    words = site / "shop" / "words.py"
    save(words, "WORD = (")
    server.wait_for_log("SyntaxError")
    server.wait_for_log("generation 2 .*given up|generation 2 .*fail|nothing changes|goes on")
    assert httpx.get(server.url).text == "one"
    save(words, "WORD = b'mended'")
    answers(server, "mended")


def test_a_hundred_files_are_one_reload(site: Path, server: Server) -> None:
    for number in range(100):
        save(site / "shop" / f"part{number}.py", "")
    server.wait_for_log("reload: generation 2 serves")
    # One more change: everything that came before it has been noticed by then.
    save(site / "shop" / "words.py", "WORD = b'last'")
    answers(server, "last")
    assert reloads(server) == ["shop/part0.py and 99 other files have changed", "shop/words.py has changed"]


def test_what_is_no_source_changes_nothing(site: Path, server: Server) -> None:
    for name in ["node_modules", ".cache", "__pycache__", "env"]:
        (site / name).mkdir()
    (site / "env" / "pyvenv.cfg").touch()
    for name in ["notes.txt", "node_modules/a.py", ".cache/a.py", "__pycache__/a.py", "env/a.py"]:
        (site / name).write_text("1")
    save(site / "shop" / "words.py", "WORD = b'last'")
    answers(server, "last")
    assert all("words.py has changed" in line for line in reloads(server))


def test_directories_and_files_by_name(site: Path) -> None:
    with serving(site, "--reload-dir", "shop", "--reload-extra", "settings.toml") as server:
        save(site / "other.py", "")
        save(site / "settings.toml", "1")
        # Not earlier: what is being loaded would have the second change already.
        server.wait_for_log("reload: generation 2 serves")
        save(site / "shop" / "words.py", "WORD = b'two'")
        server.wait_for_log("reload: generation 3 serves")
        answers(server, "two")
        assert reloads(server) == ["settings.toml has changed", "shop/words.py has changed"]


@pytest.mark.parametrize("flags", [[], ["--preload"]], ids=["plain", "preload"])
def test_a_first_load_that_fails_waits_for_a_change(site: Path, flags: list[str]) -> None:
    words = site / "shop" / "words.py"
    words.write_text("WORD = (")
    server = serving(site, *flags)

    def mend() -> None:
        eventually(lambda: "waiting for a change" in log_of(server), "the server waits")
        save(words, "import a_module_that_is_missing")
        eventually(lambda: "a_module_that_is_missing" in server.log(), "the second failure")
        eventually(lambda: server.log().count("waiting for a change") == 2, "the server waits again")
        save(words, "WORD = b'mended'")

    mending = threading.Thread(target=mend)
    mending.start()
    with server:
        assert httpx.get(server.url).text == "mended"
        assert "SyntaxError" in server.log()
        mending.join()


def test_a_server_that_waits_for_a_change_can_be_stopped(site: Path) -> None:
    (site / "shop" / "words.py").write_text("WORD = (")
    server = serving(site)
    stopping: list[BaseException] = []

    def stop() -> None:
        try:
            eventually(lambda: "waiting for a change" in log_of(server), "the server waits")
            os.kill(server.pid, 15)
        except BaseException as error:
            stopping.append(error)

    stopper = threading.Thread(target=stop)
    stopper.start()
    with pytest.raises(AssertionError, match="the program ended with 0"), server:
        pass
    stopper.join()
    assert stopping == []


def test_a_change_reads_the_configuration_again(site: Path) -> None:
    (site / "site.toml").write_text('[app]\napp = "site_app:app"\n[server]\nworkers = 1\nbind = ["127.0.0.1:0"]\n')
    environment = {"PYTHONDONTWRITEBYTECODE": "1"}
    arguments = ["--config", site / "site.toml", "--reload"]
    with Server(None, *arguments, binds=(), workers=None, cwd=site, env=environment) as server:
        (site / "site.toml").write_text('[app]\napp = "site_app:app"\n[server]\nworkers = 2\nbind = ["127.0.0.1:0"]\n')
        save(site / "shop" / "words.py", "WORD = b'two'")
        server.wait_for_log("configuration: workers 1 → 2")
        answers(server, "two")
