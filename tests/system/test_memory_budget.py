"""How many workers a reload may start at a time, and what it does where memory has no room for more of them."""

import json
import re
import subprocess
from pathlib import Path

from harness import Server, eventually
from harness.load import Load
from harness.server import PROGRAM

# Each worker has 40 MB of its own. A worker of version 2 says that it boots, and waits until it may go on.
CODE = """
import os, pathlib, time
ballast = b"x" * (40 << 20)
here = pathlib.Path({here!r})
if {version} == 2:
    (here / f"boots-{{os.getpid()}}").touch()
    while not (here / f"goes-{{os.getpid()}}").exists():
        time.sleep(0.01)
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"version {version}"]
"""


def write(site: Path, version: int, **server: object) -> None:
    (site / "fresh.txt").write_text(CODE.format(here=str(site), version=version))
    (site / "fresh.txt").rename(site / "site_app.py")
    values = {"bind": ["127.0.0.1:0"], "workers": 3, "control_socket": f"{site}/control.sock", "surge": 2, **server}
    lines = ["[app]", 'app = "site_app:app"', "[server]"]
    (site / "site.toml").write_text("\n".join([*lines, *(f"{name} = {json.dumps(value)}" for name, value in values.items())]))


def command(site: Path, *words: str) -> str:
    arguments = [str(PROGRAM), *words, "--control", f"{site}/control.sock"]
    return subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=True).stdout


def test_a_reload_within_surge_and_budget(tmp_path: Path) -> None:
    site = tmp_path
    write(site, 1)
    environment = {"PYTHONDONTWRITEBYTECODE": "1"}
    with (
        Server(None, "--config", site / "site.toml", binds=(), workers=None, cwd=site, env=environment) as server,
        Load([server.url]) as load,
    ):
        server.wait_for_log("worker 3 ready")
        # One tries the new code; then two start at a time, and none of them waits for the other.
        write(site, 2)
        reload = subprocess.Popen([PROGRAM, "reload", "--control", f"{site}/control.sock"], stdout=subprocess.DEVNULL)

        def booting(count: int) -> list[str] | None:
            names = [path.name.removeprefix("boots-") for path in site.glob("boots-*")]
            new = [name for name in names if not (site / f"goes-{name}").exists()]
            return new if len(new) == count else None

        for count in (1, 2):
            for pid in eventually(lambda count=count: booting(count), f"{count} boot"):
                (site / f"goes-{pid}").touch()
        assert reload.wait(60) == 0
        assert "memory" not in json.loads(command(site, "status", "--json"))

        # There is room for three and not for four: one leaves before the next one starts. The budget holds from the first
        # worker on that was started with it.
        for version in (3, 4):
            write(site, version, memory_budget="185MB")
            command(site, "reload")
        says = r"no memory for a spare \(1\d\d MB of 185 MB in use, one needs 4\d MB\): worker (\d) leaves first"
        assert sorted(re.findall(says, server.log())) == ["7", "8", "9"], server.log()
        memory = json.loads(command(site, "status", "--json"))["memory"]
        assert 120 << 20 < memory["used"] < memory["budget"] == 185 << 20
        assert re.search(r"memory: 1\d\d MB of 185 MB in use, one more worker needs 4\d MB", command(site, "status"))

        # There is room for nobody; one serves nevertheless, and new code still gets its turn.
        for version in (5, 6):
            write(site, version, memory_budget="1MB")
            command(site, "reload")
        server.wait_for_log(r"no memory for more workers \(.*\): 1 instead of 3")
        server.wait_for_log("the workers use .* more than --memory-budget allows")
        server.wait_for_log("without it nobody would serve: it starts nevertheless")
        eventually(lambda: len(server.worker_pids()) == 1, "one worker")
    assert load.errors == []
    assert {status for status, _ in load.answers} == {200}
    assert {text for _, text in load.answers} == {f"version {version}" for version in range(1, 7)}
