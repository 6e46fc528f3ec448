"""How an application is named, found, recognised and started: factories, instances, interfaces, preload, interpreter."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from harness import Server
from harness.server import APPS, PROGRAM


def get(server: Server, path: str = "/") -> str:
    answer = httpx.get(server.url + path, timeout=30)
    assert answer.status_code == 200, answer.text
    return answer.text


@pytest.mark.parametrize(
    "name,arguments,expected",
    [
        ("loading", (), "wsgi function"),
        ("loading:app", (), "wsgi function"),
        ("loading:application", (), "wsgi function"),
        ("loading:wsgi_instance", (), "wsgi instance"),
        ("loading:holder.app", (), "wsgi instance"),
        ("loading:asgi_function", (), "asgi function"),
        ("loading:asgi_instance", (), "asgi instance"),
        ("loading:asgi_decorated", ("--interface", "asgi"), "asgi decorated"),
        ("loading:asgi_decorated", (), "asgi decorated"),
        ("loading:make_wsgi()", (), "wsgi factory"),
        ("loading:make_wsgi", ("--factory",), "wsgi factory"),
        ("loading:make_asgi()", (), "asgi instance"),
        ("loading:make_asgi", ("--factory", "--interface", "asgi"), "asgi instance"),
        ("package.inner:app", (), "in package"),
    ],
)
@pytest.mark.parametrize("preload", [False, True], ids=["", "preload"])
def test_shapes_of_applications(name: str, arguments: tuple[str, ...], expected: str, preload: bool) -> None:
    with Server(name, *arguments, *(["--preload"] if preload else [])) as server:
        assert get(server).startswith(expected)


def test_wrong_interface_is_an_error_and_not_a_hang() -> None:
    with Server("loading:app", "--interface", "asgi", "--timeout", "10") as server:
        assert httpx.get(server.url, timeout=60).status_code in (500, 502)


def test_without_preload_every_worker_imports_the_application() -> None:
    with Server("plain_wsgi:app", workers=3) as server:
        workers = server.wait_for_workers(3)
        for pid in workers:
            server.wait_for_log(rf"imported by {pid}\b")


def test_with_preload_the_application_is_imported_once() -> None:
    """By the zygote, before the first worker; a replaced worker does not import it again."""
    with Server("plain_wsgi:app", "--preload", workers=3) as server:
        workers = server.wait_for_workers(3)
        assert get(server) == "hello"
        os.kill(workers[0], 9)
        server.wait_for_workers(3, other_than=workers[:1])
        imported = re.findall(r"imported by (\d+)", server.log())
        assert len(imported) == 1
        assert int(imported[0]) not in workers


def test_number_of_workers_and_threads(tmp_path: Path) -> None:
    with Server("plain_wsgi:app", "--threads", "3", workers=2) as server:
        assert len(server.wait_for_workers(2)) == 2
        environ = httpx.get(f"{server.url}/facts").json()["environ"]
        assert (environ["wsgi.multithread"], environ["wsgi.multiprocess"]) == (True, True)
    with Server("plain_wsgi:app", workers=1) as server:
        environ = httpx.get(f"{server.url}/facts").json()["environ"]
        assert (environ["wsgi.multithread"], environ["wsgi.multiprocess"]) == (False, False)


def test_directory_and_environment_of_the_application(tmp_path: Path) -> None:
    shutil.copy(APPS / "plain_wsgi.py", tmp_path)
    with Server(
        "plain_wsgi:app",
        *("--chdir", tmp_path, "--env", "FIRST=a=b", "--env", "SECOND=", "--env", "THIRD=ü"),
        cwd=Path("/"),
        env={"INHERITED": "yes"},
    ) as server:
        assert httpx.get(f"{server.url}/facts").json()["directory"] == str(tmp_path)
        names = "FIRST,SECOND,THIRD,INHERITED,MONOCEROS_CONTROL_FD"
        variables = httpx.get(f"{server.url}/variables", params={"name": names}).json()
        assert variables["FIRST"] == "a=b" and variables["SECOND"] == "" and variables["THIRD"] == "ü"
        assert variables["INHERITED"] == "yes"
        assert variables["MONOCEROS_CONTROL_FD"] is None, "the application should not see our plumbing"


def test_root_path() -> None:
    with Server("plain_wsgi:app", "--root-path", "/mounted") as server:
        environ = httpx.get(f"{server.url}/mounted/facts").json()["environ"]
        assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == ("/mounted", "/facts")


# The interpreter


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with a package that only it has."""
    path = tmp_path_factory.mktemp("venv") / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", path], check=True)
    (site,) = path.glob("lib/python3*/site-packages")
    (site / "only_here.py").write_text(
        "import sys\n\n\ndef app(environ, start_response):\n"
        "    start_response('200 OK', [('Content-Type', 'text/plain')])\n"
        "    return [sys.prefix.encode()]\n"
    )
    return path


def test_interpreter_of_the_flag(environment: Path) -> None:
    with Server("only_here:app", python=str(environment / "bin" / "python")) as server:
        assert get(server) == str(environment)


def test_interpreter_of_the_activated_environment(environment: Path) -> None:
    variables = {"VIRTUAL_ENV": str(environment), "PATH": f"{environment}/bin:{os.environ['PATH']}"}
    with Server("only_here:app", env=variables, python=None) as server:
        assert get(server) == str(environment)


def test_interpreter_beside_the_application(environment: Path, tmp_path: Path) -> None:
    (tmp_path / ".venv").symlink_to(environment)
    with Server("only_here:app", cwd=tmp_path, env={"VIRTUAL_ENV": ""}, python=None) as server:
        assert Path(get(server)).resolve() == environment.resolve()


def test_the_program_is_one_file(tmp_path: Path) -> None:
    """Copied alone to an empty place it serves: the worker extension is inside."""
    alone = tmp_path / "monoceros"
    shutil.copy(PROGRAM, alone)
    server = Server("plain_wsgi:app")
    server._command[0] = str(alone)
    with server:
        assert get(server) == "hello"


# Configuration


def test_configuration_file_environment_and_flags(tmp_path: Path) -> None:
    """A flag beats the environment, which beats the file."""
    config = tmp_path / "monoceros.toml"
    config.write_text(
        '[app]\napp = "plain_wsgi:app"\n[server]\nbind = ["http://127.0.0.1:0"]\nworkers = 3\nthreads = 2\n'
    )
    with Server(None, "--config", config, binds=[], workers=None) as server:
        assert len(server.wait_for_workers(3)) == 3
        assert get(server) == "hello"
    with Server(None, "--config", config, binds=[], workers=None, env={"MONOCEROS_WORKERS": "2"}) as server:
        assert len(server.wait_for_workers(2)) == 2
    with Server(None, "--config", config, binds=[], workers=1, env={"MONOCEROS_WORKERS": "2"}) as server:
        assert len(server.wait_for_workers(1)) == 1
