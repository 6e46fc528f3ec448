"""The zygote: boot, fork, preload, signals, and that nothing outlives it."""

import os
import pathlib
import select
import signal
import subprocess

import pytest

from front import EXIT_APP_LOAD, EXIT_LINK, VERSION, Phase
from supervisor import SOURCE, Zygote

HELLO = """
import os, sys, signal, threading, atexit
def app(environ, start_response):
    if environ["PATH_INFO"] == "/exit":
        os._exit(7)
    if environ["PATH_INFO"] == "/path":
        body = repr((sys.path[:3], sys.argv, sorted(k for k in os.environ if k.startswith("MONOCEROS"))))
    elif environ["PATH_INFO"] == "/signals":
        body = repr([signal.getsignal(s) for s in (signal.SIGQUIT, signal.SIGCHLD)])
    elif environ["PATH_INFO"] == "/descriptors":
        body = repr([os.readlink(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{n}")])
    else:
        body = f"{os.getpid()} {IMPORTED_BY}"
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [body.encode()]
IMPORTED_BY = os.getpid()
"""


@pytest.fixture
def directory(tmp_path):
    (tmp_path / "hello.py").write_text(HELLO)
    return tmp_path


def test_forks_a_worker_that_serves(directory):
    with Zygote(directory, app="hello") as zygote:
        zygote.wait_event("loaded")
        worker = zygote.fork(1)
        assert worker.ready == ("wsgi", 1)
        response = worker.get("/")
        assert response.status == 200
        assert response.text == f"{worker.pid} {worker.pid}"
        assert response["content-length"] == str(len(response.body)).encode()


def test_boot_leaves_the_application_a_clean_process(directory):
    with Zygote(directory, app="hello", python_path=["/opt/first"]) as zygote:
        path, argv, variables = eval(zygote.fork(1).get("/path").text)
        assert path[:2] == ["/opt/first", str(directory)]
        assert (argv, variables) == (["monoceros"], [])
        signals = zygote.workers[0].get("/signals").text
        assert signals == "[<built-in function quit_worker>, <Handlers.SIG_DFL: 0>]"


def test_a_worker_holds_no_descriptor_of_others(directory):
    with Zygote(directory, app="hello") as zygote:
        first, second = zygote.fork(1), zygote.fork(2)
        for worker in (first, second):
            held = eval(worker.get("/descriptors").text)
            assert len([name for name in held if name.startswith("socket:")]) == 1, held
            assert not [name for name in held if "pidfd" in name], held
        # The far end of the first link is held by the first worker alone, so its end is seen at once.
        os.kill(first.pid, signal.SIGKILL)
        first.wait(lambda: first.eof, "the end of the link")


def test_started_tells_who_it_is(directory):
    with Zygote(directory, app="hello") as zygote:
        assert zygote.started["pid"] == zygote.process.pid
        assert zygote.started["version"] == VERSION
        assert zygote.started["python"].startswith("3.")


def test_another_version_is_refused(directory):
    with Zygote(directory, app="hello", version=99) as zygote:
        assert zygote.process.wait(10) == EXIT_LINK
        assert "speaks version 99" in zygote.log()


def test_exit_codes_and_signals_are_reported(directory):
    with Zygote(directory, app="hello") as zygote:
        coded, killed, asked = zygote.fork(1), zygote.fork(2), zygote.fork(3)
        coded.request("GET", "/exit")
        assert coded.exited() == {"code": 7}
        os.kill(killed.pid, signal.SIGKILL)
        assert killed.exited() == {"signal": signal.SIGKILL}
        zygote.signal(3, signal.SIGKILL)
        assert asked.exited() == {"signal": signal.SIGKILL}
        zygote.signal(3, signal.SIGKILL)  # gone: nothing happens
        again = zygote.fork(3)
        assert again.get("/").status == 200


def test_a_drained_worker_exits_with_zero(directory):
    with Zygote(directory, app="hello") as zygote:
        worker = zygote.fork(1)
        worker.drain()
        assert worker.exited() == {"code": 0}


def test_the_end_of_its_link_ends_a_worker(directory):
    with Zygote(directory, app="hello") as zygote:
        worker = zygote.fork(1)
        worker.socket.close()
        assert worker.exited() == {"code": EXIT_LINK}


def test_sigterm_finishes_the_request_and_exits_with_zero(tmp_path):
    (tmp_path / "slow.py").write_text(
        "import os\n"
        "def app(environ, start_response):\n"
        "    while not os.path.exists('go'):\n"
        "        pass\n"
        "    start_response('200 OK', [])\n"
        "    return [b'finished']\n"
    )
    with Zygote(tmp_path, app="slow") as zygote:
        worker = zygote.fork(1)
        running, queued = worker.request("GET", "/"), worker.request("GET", "/")

        running.wait_phase(Phase.ENTERED)
        os.kill(worker.pid, signal.SIGTERM)
        os.kill(worker.pid, signal.SIGINT)
        (tmp_path / "go").touch()
        assert running.response().body == b"finished"
        assert worker.exited() == {"code": 0}
        assert queued.phase == Phase.HANDED, "not entered: the front gives it to another worker"


@pytest.mark.parametrize("threads", [1, 3])
def test_sigterm_ends_an_idle_worker(directory, threads):
    with Zygote(directory, app="hello", threads=threads) as zygote:
        worker = zygote.fork(1)
        os.kill(worker.pid, signal.SIGTERM)
        assert worker.exited() == {"code": 0}


def test_signals_of_the_terminal_do_not_end_the_zygote(directory):
    with Zygote(directory, app="hello") as zygote:
        zygote.wait_event("loaded")
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP):
            zygote.process.send_signal(number)
        assert zygote.fork(1).get("/").status == 200
        assert os.getpgid(zygote.process.pid) == zygote.process.pid


def gone(pids, timeout=10):
    """Waits until none of these processes runs any more."""
    for pid in pids:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        assert select.select([descriptor], [], [], timeout)[0], f"process {pid} still runs"
        os.close(descriptor)


BUSY = "def app(environ, start_response):\n    while True: pass\n"


@pytest.mark.parametrize("end", ["exit", "eof", "kill"])
def test_nothing_outlives_the_zygote(tmp_path, end):
    (tmp_path / "busy.py").write_text(BUSY)
    with Zygote(tmp_path, app="busy") as zygote:
        workers = [zygote.fork(1), zygote.fork(2)]
        workers[0].request("GET", "/")
        if end == "exit":
            zygote.send({"do": "exit"})
        elif end == "eof":
            zygote.control.close()
        else:
            zygote.process.kill()
        gone([worker.pid for worker in workers])
        assert zygote.process.wait(10) == (0 if end != "kill" else -signal.SIGKILL)


def test_a_fork_without_descriptors_fails_politely(directory):
    with Zygote(directory, app="hello") as zygote:
        zygote.send({"do": "fork", "worker": 5})
        assert "five descriptors" in zygote.wait_event("fork_failed", worker=5)["message"]
        assert zygote.fork(6).get("/").status == 200


def test_preload_imports_once(directory):
    with Zygote(directory, app="hello", preload=True) as zygote:
        zygote.wait_event("loaded")
        bodies = [zygote.fork(number).get("/").text.split() for number in (1, 2)]
        assert [imported_by for _, imported_by in bodies] == [str(zygote.process.pid)] * 2
        assert bodies[0][0] != bodies[1][0]


def test_preload_keeps_the_handlers_and_hooks_of_the_application(tmp_path):
    (tmp_path / "hooks.py").write_text(
        "import atexit, os, random, signal, threading\n"
        "signal.signal(signal.SIGTERM, lambda *_: print('own handler', flush=True))\n"
        "atexit.register(lambda: print('hook', os.getpid(), flush=True))\n"
        "os.register_at_fork(after_in_child=lambda: print('forked', flush=True))\n"
        "def app(environ, start_response):\n"
        "    start_response('200 OK', [])\n"
        "    threading.Timer(0.2, lambda: print('thread', flush=True)).start()\n"
        "    return [str(random.random()).encode()]\n"
    )
    with Zygote(tmp_path, app="hooks", preload=True) as zygote:
        first, second = zygote.fork(1), zygote.fork(2)
        assert first.get("/").text != second.get("/").text
        os.kill(first.pid, signal.SIGTERM)
        first.wait_log("own handler")
        first.drain()
        assert first.exited() == {"code": 0}
        assert first.log().splitlines()[-2:] == ["thread", f"hook {first.pid}"]
        zygote.send({"do": "exit"})
        assert zygote.process.wait(10) == 0
        assert f"hook {zygote.process.pid}" not in zygote.log()


def test_output_of_the_worker_goes_where_the_supervisor_wants_it(tmp_path):
    (tmp_path / "loud.py").write_text(
        "import sys, os\nprint('importing')\n"
        "def app(environ, start_response):\n"
        "    print('printed')\n"
        "    environ['wsgi.errors'].write('error\\n')\n"
        "    os.write(1, b'raw\\n')\n"
        "    start_response('200 OK', [])\n"
        "    return []\n"
    )
    with Zygote(tmp_path, app="loud") as zygote:
        worker = zygote.fork(1)
        worker.get("/")
        assert worker.log() == "importing\nprinted\nerror\nraw\n"
        assert zygote.log() == ""


def test_a_process_can_be_told_apart_by_its_name(directory):
    with Zygote(directory, app="hello") as zygote:
        worker = zygote.fork(12)
        assert pathlib.Path(f"/proc/{worker.pid}/comm").read_text() == "monoceros: w12\n"


@pytest.mark.parametrize("version", ["3.12", "3.13"])
def test_other_interpreters(directory, version):
    found = sorted(pathlib.Path.home().glob(f".pyenv/versions/{version}.*/bin/python3"))
    if not found:
        pytest.skip(f"no Python {version} here")
    with Zygote(directory, app="hello", python=str(found[-1]), threads=2) as zygote:
        assert zygote.started["python"].startswith(version)
        worker = zygote.fork(1)
        assert worker.get("/").status == 200
        worker.drain()
        assert worker.exited() == {"code": 0}


@pytest.mark.parametrize("version", ["2.7", "3.6", "3.10"])
def test_an_old_interpreter_is_refused_in_words(version):
    found = sorted(pathlib.Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    if not found:
        pytest.skip(f"no Python {version} here")
    result = subprocess.run([found[-1], "-c", (SOURCE / "boot.py").read_text()], capture_output=True, text=True)
    assert result.returncode == EXIT_APP_LOAD
    assert result.stderr.startswith("monoceros needs Python 3.11 or newer")
    assert version in result.stderr


def test_an_aborted_worker_says_where_it_hung(tmp_path):
    (tmp_path / "busy.py").write_text(BUSY)
    with Zygote(tmp_path, app="busy") as zygote:
        worker = zygote.fork(1)
        worker.request("GET", "/").wait_phase(Phase.ENTERED)
        zygote.signal(1, signal.SIGABRT)
        assert worker.exited() == {"signal": signal.SIGABRT}
        assert 'busy.py", line 2 in app' in worker.log()


ASGI = """
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            print(message["type"], flush=True)
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})
"""


@pytest.mark.parametrize("preload", [False, True])
@pytest.mark.parametrize("end", ["drain", "sigterm"])
def test_an_asgi_application(tmp_path, preload, end):
    (tmp_path / "site_app.py").write_text(ASGI)
    with Zygote(tmp_path, app="site_app", preload=preload) as zygote:
        worker = zygote.fork(1)
        assert worker.ready[0] == "asgi"
        assert worker.get("/").body == b"hello"
        if end == "drain":
            worker.drain()
        else:
            os.kill(worker.pid, signal.SIGTERM)
        assert worker.exited() == {"code": 0}
        assert worker.log() == "lifespan.startup\nlifespan.shutdown\n"
