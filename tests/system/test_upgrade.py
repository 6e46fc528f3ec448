"""The program replaces itself while it serves (USR2, `monoceros upgrade`): no connection is refused or reset."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import Server, eventually, processes
from harness.certificate import Certificate
from harness.load import Load, connection_to
from harness.server import PROGRAM

CODE = """
import os
{extra}
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"%d" % os.getpid()]
"""


def write(directory: Path, extra: str = "") -> None:
    (directory / "site_app.py").write_text(CODE.format(extra=extra))


@pytest.fixture
def site(tmp_path: Path) -> Path:
    write(tmp_path)
    return tmp_path


ENVIRONMENT = {"PYTHONDONTWRITEBYTECODE": "1"}


def successor(server: Server) -> int:
    """The process that serves now."""
    return int(server.wait_for_log(r"upgrade: process (\d+) serves; this one").group(1))


def end(server: Server, pid: int) -> None:
    """Stops the successor, which the harness does not know."""
    os.kill(pid, signal.SIGTERM)
    eventually(lambda: not processes.is_alive(pid), "the end of the successor")
    # Nobody of this run is left; a zombie is nobody.
    server.expect_nothing_left()


def workers_of(pid: int) -> set[str]:
    return {str(worker) for zygote in processes.children(pid) for worker in processes.children(zygote)}


@pytest.mark.parametrize("kind", ["plain", "tls"])
def test_under_load_nothing_is_refused_or_reset(site: Path, kind: str, certificate: Certificate) -> None:
    scheme = "https" if kind == "tls" else "http"
    binds = [f"{scheme}://127.0.0.1:0", f"{scheme}://unix:{site}/front.sock" if kind == "plain" else "https://127.0.0.1:0"]
    flags = certificate.flags if kind == "tls" else []
    with Server("site_app:app", *flags, binds=binds, workers=2, cwd=site, env=ENVIRONMENT) as server:
        old = workers_of(server.pid)
        with Load(server.listeners, tls=certificate.context()) as load:
            os.kill(server.pid, signal.SIGUSR2)
            pid = successor(server)
            eventually(lambda: len(workers_of(pid)) == 2, "its workers")
            new = workers_of(pid)
            eventually(lambda: not processes.is_alive(server.pid), "the end of the old process")
            load.goes_on(lambda answer: answer[1] in new)
        load.expect_only(200)
        seen = {text for _, text in load.answers}
        assert seen & old and seen & new and seen <= old | new
        assert server.process is not None and server.process.wait(10) == 0
        # And once more: the successor can be replaced too.
        with Load(server.listeners[:2], tls=certificate.context()) as load:
            os.kill(pid, signal.SIGUSR2)
            third = int(server.wait_for_log(rf"upgrade: process (?!{pid} )(\d+) serves; this one").group(1))
            eventually(lambda: not processes.is_alive(pid), "the end of the second process")
            load.goes_on()
        load.expect_only(200)
        if kind == "plain":
            assert (site / "front.sock").exists()
        end(server, third)
        assert not (site / "front.sock").exists()


def test_a_new_file_of_the_program_is_taken(site: Path) -> None:
    """A package manager puts the new file beside the old one and renames it."""
    program = site / "bin" / "monoceros"
    program.parent.mkdir()
    shutil.copy2(PROGRAM, program)
    server = Server("site_app:app", workers=1, cwd=site, env=ENVIRONMENT)
    server._command[0] = str(program)
    with server:
        fresh = site / "bin" / "fresh"
        shutil.copy2(PROGRAM, fresh)
        inode = fresh.stat().st_ino
        fresh.rename(program)
        os.kill(server.pid, signal.SIGUSR2)
        pid = successor(server)
        assert os.stat(f"/proc/{pid}/exe").st_ino == inode
        assert Path(f"/proc/{pid}/cmdline").read_bytes() == b"\0".join(a.encode() for a in server._command) + b"\0"
        assert Path(f"/proc/{pid}/cwd").resolve() == site
        end(server, pid)


def test_the_workers_do_not_inherit_what_is_handed_over(site: Path) -> None:
    with Server("site_app:app", workers=1, cwd=site, env=ENVIRONMENT) as server:
        os.kill(server.pid, signal.SIGUSR2)
        pid = successor(server)
        for process in [*processes.children(pid), *(int(worker) for worker in workers_of(pid))]:
            assert b"MONOCEROS_HANDOVER" not in Path(f"/proc/{process}/environ").read_bytes()
            listening = [line.split()[9] for line in Path(f"/proc/{process}/net/tcp").read_text().splitlines() if " 0A " in line]
            links = [os.readlink(link) for link in Path(f"/proc/{process}/fd").iterdir()]
            assert not [inode for inode in listening if f"socket:[{inode}]" in links]
        end(server, pid)


FAILURES = {
    "code": ("1 / 0", "ZeroDivisionError"),
    "exit": ("import os; os._exit(3)", "before it could serve|no worker was ready|exited with code 3"),
    "slow": ("import time; time.sleep(600)", "no worker was ready within 2 s"),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_an_application_that_cannot_be_loaded_changes_nothing(site: Path, failure: str) -> None:
    code, reason = FAILURES[failure]
    path = f"{site}/front.sock"
    binds = ["http://127.0.0.1:0", f"unix:{path}"]
    with Server("site_app:app", "--boot-timeout", "2s", binds=binds, workers=1, cwd=site, env=ENVIRONMENT) as server:
        old = workers_of(server.pid)
        with Load(server.listeners) as load:
            write(site, code)
            os.kill(server.pid, signal.SIGUSR2)
            server.wait_for_log("upgrade: given up, nothing changes", timeout=60)
            assert re.search(reason, server.log())
            load.goes_on()
        load.expect_only(200)
        assert {text for _, text in load.answers} == old
        eventually(lambda: len(processes.children(server.pid)) == 1, "only the zygote is left")
        assert Path(path).exists()
        # It can be tried again.
        write(site)
        os.kill(server.pid, signal.SIGUSR2)
        pid = successor(server)
        end(server, pid)


def configured(site: Path, text: str) -> None:
    (site / "site.toml").write_text(text)


@pytest.fixture
def by_file(site: Path) -> Iterator[Server]:
    """Its options are in a file, so that they can be others for the successor."""
    configured(site, f"[server]\ncontrol_socket = '{site}/control.sock'\n")
    with Server("site_app:app", "--config", site / "site.toml", workers=1, cwd=site, env=ENVIRONMENT) as server:
        yield server


def command(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    words = [str(PROGRAM), *arguments, "--control", str(site / "control.sock")]
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)


def test_mistakes_in_the_configuration_change_nothing_and_are_all_told(site: Path, by_file: Server) -> None:
    configured(site, "[server]\nthreads = 0\n[limits]\nmax_body = 'much'\n")
    done = command(site, "upgrade")
    assert done.returncode == 1
    for part in ("nothing has changed", "threads", "max-body", "2 mistakes in the configuration"):
        assert part in done.stderr, done.stderr
    assert "max-body" in by_file.log() and "upgrade: given up, nothing changes" in by_file.log()
    with Load([by_file.url]) as load:
        load.goes_on()
    load.expect_only()


def test_the_command(site: Path, by_file: Server) -> None:
    done = command(site, "upgrade")
    assert done.returncode == 0, done.stderr
    pid = successor(by_file)
    assert done.stdout == f"process {pid} starts\nprocess {pid} serves\n"
    # The successor answers under the name now.
    told = eventually(
        lambda: (told := json.loads(command(site, "status", "--json").stdout))["pid"] == pid and told, "its status"
    )
    assert told["listening"] == [by_file.url]
    eventually(lambda: not processes.is_alive(by_file.pid), "the end of the old process")
    assert command(site, "status").returncode == 0
    end(by_file, pid)
    assert not (site / "control.sock").exists()


def test_addresses_may_change(site: Path) -> None:
    path = f"{site}/front.sock"
    configured(site, f"[server]\nworkers = 1\nbind = ['127.0.0.1:0', 'unix:{path}']\nadmin_bind = ['127.0.0.1:0']\n")
    with Server("site_app:app", "--config", site / "site.toml", binds=(), workers=None, cwd=site, env=ENVIRONMENT) as server:
        eventually(lambda: len(server.listeners) == 2, "its addresses")
        kept = server.url
        new_path = f"{site}/new.sock"
        configured(site, f"[server]\nworkers = 1\nbind = ['127.0.0.1:0', 'unix:{new_path}']\n")
        with Load([kept]) as load:
            os.kill(server.pid, signal.SIGUSR2)
            pid = successor(server)
            eventually(lambda: not processes.is_alive(server.pid), "the end of the old process")
            load.goes_on()
        load.expect_only()
        with Load([f"unix:{new_path}"]) as load:
            load.goes_on()
        load.expect_only()
        eventually(lambda: not Path(path).exists(), "the name of an address that is gone")
        end(server, pid)


def test_one_at_a_time(site: Path) -> None:
    gate = site / "go"
    wait = f"import os, time\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.01)"
    with Server("site_app:app", workers=1, cwd=site, env=ENVIRONMENT) as server:
        write(site, wait)
        os.kill(server.pid, signal.SIGUSR2)
        server.wait_for_log(r"upgrade: .* starts as process")
        os.kill(server.pid, signal.SIGUSR2)
        server.wait_for_log("upgrade: refused: another one is under way")
        os.kill(server.pid, signal.SIGHUP)
        server.wait_for_log("reload: nothing changes: an upgrade is under way")
        gate.touch()
        pid = successor(server)
        end(server, pid)


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
def test_a_server_that_ends_meanwhile_takes_the_new_one_along(site: Path, sent: int) -> None:
    with Server("site_app:app", workers=1, cwd=site, env=ENVIRONMENT) as server:
        write(site, "import time; time.sleep(600)")
        os.kill(server.pid, signal.SIGUSR2)
        pid = int(server.wait_for_log(r"upgrade: .* starts as process (\d+)").group(1))
        eventually(lambda: workers_of(pid), "a worker that boots")
        os.kill(server.pid, sent)
        server.expect_clean_stop = False
        eventually(lambda: not processes.is_alive(server.pid), "its end")
        server.expect_nothing_left()


def test_a_client_that_downloads_gets_the_rest(site: Path) -> None:
    gate = site / "go"
    write(site)
    with (site / "site_app.py").open("a") as file:
        file.write(
            "\nplain = app\ndef app(environ, start_response):\n"
            "    if environ['PATH_INFO'] != '/slow': return plain(environ, start_response)\n"
            "    start_response('200 OK', [])\n"
            "    def pieces():\n        import time\n        yield b'first '\n"
            f"        while not os.path.exists({str(gate)!r}): time.sleep(0.01)\n        yield b'last'\n"
            "    return pieces()\n"
        )
    with Server("site_app:app", workers=1, cwd=site, env=ENVIRONMENT) as server:
        connection = connection_to(server.url, None)
        connection.request("GET", "/slow")
        answer = connection.getresponse()
        assert answer.read(6) == b"first "
        os.kill(server.pid, signal.SIGUSR2)
        pid = successor(server)
        gate.touch()
        assert answer.read() == b"last"
        eventually(lambda: not processes.is_alive(server.pid), "the end of the old process")
        end(server, pid)


def test_what_the_service_manager_hears(site: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.settimeout(30)
        receiver.bind(str(site / "notify"))
        with Server("site_app:app", workers=1, cwd=site, env={**ENVIRONMENT, "NOTIFY_SOCKET": str(site / "notify")}) as server:
            assert f"MAINPID={server.pid}" in receiver.recv(4096).decode()
            os.kill(server.pid, signal.SIGUSR2)
            pid = successor(server)
            eventually(lambda: not processes.is_alive(server.pid), "the end of the old process")
            told = []
            receiver.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                for _ in range(100):
                    told.append(receiver.recv(4096).decode())
            assert any("READY=1" in words and f"MAINPID={pid}" in words for words in told), told
            assert not any("STOPPING" in words for words in told), told
            receiver.setblocking(True)
            end(server, pid)


def test_process_1_of_a_container_is_not_replaced(site: Path) -> None:
    enter = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if not shutil.which("unshare") or subprocess.run([*enter, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this user may not make a namespace of processes")
    server = Server("site_app:app", workers=1, cwd=site, env=ENVIRONMENT)
    server._command = [*enter, *server._command]
    with server:
        [first] = processes.children(server.pid)
        os.kill(first, signal.SIGUSR2)
        server.wait_for_log("upgrade: refused: this is process 1 of a container")
        with Load([server.url]) as load:
            load.goes_on()
        load.expect_only()
        os.kill(first, signal.SIGTERM)
        eventually(lambda: not processes.is_alive(first), "its end")


def test_a_new_process_that_is_stopped_before_it_serves_takes_no_client(site: Path) -> None:
    with Server("site_app:app", workers=1, cwd=site, env=ENVIRONMENT) as server:
        old = workers_of(server.pid)
        with Load([server.url]) as load:
            write(site, "import time; time.sleep(600)")
            os.kill(server.pid, signal.SIGUSR2)
            pid = int(server.wait_for_log(r"upgrade: .* starts as process (\d+)").group(1))
            eventually(lambda: workers_of(pid), "a worker that boots")
            os.kill(pid, signal.SIGTERM)
            server.wait_for_log("upgrade: given up, nothing changes")
            load.goes_on()
        load.expect_only(200)
        assert {text for _, text in load.answers} == old


def test_commands_mean_the_new_process(site: Path) -> None:
    runtime = site / "runtime"
    runtime.mkdir(mode=0o700)
    environment = {**ENVIRONMENT, "RUNTIME_DIRECTORY": str(runtime)}

    def pid_of(*arguments: object) -> int:
        words = [str(PROGRAM), "status", "--json", *map(str, arguments)]
        # Other servers of this user have their sockets elsewhere.
        only = {"PATH": os.environ["PATH"], "RUNTIME_DIRECTORY": str(runtime), "XDG_RUNTIME_DIR": str(site), "TMPDIR": str(site)}
        enter = ["env", "-i", *(f"{name}={value}" for name, value in only.items())]
        done = subprocess.run([*enter, *words], capture_output=True, text=True, timeout=60, check=False)
        return int(json.loads(done.stdout)["pid"]) if done.returncode == 0 else 0

    with Server("site_app:app", workers=1, cwd=site, env=environment) as server:
        # Its connection is idle: it keeps the old process for a while.
        idle = connection_to(server.url, None)
        idle.request("GET", "/")
        idle.getresponse().read()
        os.kill(server.pid, signal.SIGUSR2)
        pid = successor(server)
        eventually((runtime / f"{server.pid}.leaving").exists, "the old one's socket has another name")
        assert pid_of("--pid", pid) == pid
        assert pid_of("--pid", server.pid) == server.pid
        assert sorted(path.name for path in runtime.iterdir()) == sorted([f"{server.pid}.leaving", f"{pid}.sock"])
        idle.close()
        eventually(lambda: not processes.is_alive(server.pid), "the end of the old process")
        end(server, pid)
        assert list(runtime.iterdir()) == []


def test_a_stop_at_the_moment_in_which_the_new_process_serves(site: Path) -> None:
    """Both end, or the new one serves on every address; never a new one whose socket file the old one has removed."""
    path = site / "front.sock"
    gate = site / "go"
    with Server("site_app:app", binds=[f"unix:{path}"], workers=1, cwd=site, env=ENVIRONMENT) as server:
        write(site, f"import time\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.01)")
        os.kill(server.pid, signal.SIGUSR2)
        pid = int(server.wait_for_log(r"upgrade: .* starts as process (\d+)").group(1))
        eventually(lambda: workers_of(pid), "a worker that boots")
        # The old one learns of both at once.
        os.kill(server.pid, signal.SIGSTOP)
        gate.touch()
        eventually(lambda: server.log().count("info  ready: ") == 2, "the new one serves")
        os.kill(server.pid, signal.SIGTERM)
        os.kill(server.pid, signal.SIGCONT)
        assert server.process is not None and server.process.wait(60) == 0
        if "serves; this one" in server.log():
            assert path.exists()
            end(server, pid)
        else:
            eventually(lambda: not processes.is_alive(pid), "the end of the new one")
            server.expect_nothing_left()
        assert not path.exists()


def test_operators_ask_the_new_process(site: Path) -> None:
    gate = site / "go"
    with (site / "site_app.py").open("a") as file:
        file.write(
            "\nplain = app\ndef app(environ, start_response):\n    import time\n"
            f"    while environ['PATH_INFO'] == '/slow' and not os.path.exists({str(gate)!r}): time.sleep(0.01)\n"
            "    return plain(environ, start_response)\n"
        )
    with Server("site_app:app", "--admin-bind", "127.0.0.1:0", workers=1, cwd=site, env=ENVIRONMENT) as server:
        address = server.wait_for_log(r"for operators: (\S+)/-/status").group(1)

        def in_flight() -> int:
            operator = connection_to(address, None)
            operator.request("GET", "/-/status")
            told = json.loads(operator.getresponse().read())
            operator.close()
            return int(told["in_flight"])

        client = connection_to(server.url, None)
        client.request("GET", "/slow")
        eventually(lambda: in_flight() == 1, "the old process has a client")
        os.kill(server.pid, signal.SIGUSR2)
        pid = successor(server)
        eventually(lambda: not any(in_flight() for _ in range(20)), "only the new process answers")
        assert processes.is_alive(server.pid)
        gate.touch()
        assert client.getresponse().status == 200
        eventually(lambda: not processes.is_alive(server.pid), "the end of the old process")
        end(server, pid)
