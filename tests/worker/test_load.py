"""Loading the application: names, factories, interfaces, and the words for everything that goes wrong."""

import functools
import importlib.util
import sys
import textwrap

import pytest

from front import EXIT_APP_LOAD
from supervisor import SOURCE, Zygote


def loader():
    """`load.py` as the extension compiles it."""
    spec = importlib.util.spec_from_file_location("monoceros_load", SOURCE / "load.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


LOAD = loader()


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes modules into a fresh directory on `sys.path`; what was imported from there is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    known = set(sys.modules)

    def write(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))

    yield write
    for name in set(sys.modules) - known:
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


def load(target, interface="auto", is_factory=False, python_path=()):
    return LOAD.load(target, interface, is_factory, list(python_path))


APPS = """
    def wsgi(environ, start_response): ...
    async def asgi(scope, receive, send): ...
    class Site:
        def __call__(self, environ, start_response): ...
    class Nested:
        site = Site()
    nested = Nested()
    nested.deep = Nested()
    def create_site(name="x", debug=False):
        site = Site()
        site.arguments = (name, debug)
        return site
"""


@pytest.mark.parametrize("names, target, expected", [
    ("application = wsgi", "apps", "wsgi"),
    ("app = asgi", "apps", "asgi"),
    ("app = asgi; application = wsgi", "apps", "wsgi"),
    ("def create_app(): return asgi", "apps", "asgi"),
    ("def make_app(): return wsgi", "apps", "wsgi"),
    ("def create_app(config=None, extra=None): return wsgi", "apps", "wsgi"),
    ("", "apps:wsgi", "wsgi"),
    ("", "apps:asgi", "asgi"),
    ("", "apps:nested.site", "wsgi"),
    ("", "apps:nested.deep.site", "wsgi"),
    ("", "apps:create_site()", "wsgi"),
    ("", "apps:create_site", "wsgi"),
    ("def create_other(config='x', debug=False): return asgi", "apps:create_other", "asgi"),
    ("def lenient(environ, start_response=None): ...", "apps:lenient", "wsgi"),
    ("def very_lenient(environ=None, start_response=None): ...", "apps:very_lenient", "wsgi"),
    ("def own_names(e, sr): ...", "apps:own_names", "wsgi"),
    ("", "apps:Site", "wsgi"),
    ("", "apps:Site()", "wsgi"),
    ("", " apps : wsgi ", "wsgi"),
])
def test_what_can_be_named(write, names, target, expected):
    write("apps.py", textwrap.dedent(APPS) + textwrap.dedent(names))
    result = load(target)
    assert len(result) == 2, result
    assert callable(result[0])
    assert result[1] == expected


def test_factory_arguments_are_literals(write):
    write("apps.py", APPS)
    application, _ = load("apps:create_site('a:b', debug=True)")
    assert application.arguments == ("a:b", True)


def test_the_factory_switch(write):
    write("apps.py", APPS)
    assert load("apps:create_site", is_factory=True)[1] == "wsgi"
    write("more.py", "def create_app(): return lambda environ, start_response: []")
    assert load("more", is_factory=True)[1] == "wsgi"


def test_python_path_comes_first(write, tmp_path):
    write("apps.py", "def app(environ, start_response): ...\nwhere = 'directory'")
    write("first/apps.py", "def app(environ, start_response): ...\nwhere = 'first'")
    write("second/apps.py", "def app(environ, start_response): ...\nwhere = 'second'")
    application, _ = load("apps", python_path=[str(tmp_path / "first"), str(tmp_path / "second")])
    assert application.__globals__["where"] == "first"


def wsgi(environ, start_response): ...
async def asgi(scope, receive, send): ...
def sync_asgi(scope, receive, send): ...


@functools.wraps(asgi)
def wrapped_asgi(*arguments, **keywords): ...


@functools.wraps(wsgi)
def wrapped_wsgi(*arguments, **keywords): ...


def bare_wrapper(*arguments, **keywords): ...
async def bare_async_wrapper(*arguments, **keywords): ...


class Wsgi:
    def __call__(self, environ, start_response): ...
    def method(self, env, respond): ...
    @staticmethod
    def static(environ, start_response): ...
    @classmethod
    def make(cls, environ, start_response): ...


class Asgi:
    async def __call__(self, scope, receive, send): ...
    async def method(self, scope, receive, send): ...


class SyncAsgi:
    def __call__(self, scope, receive, send):
        return asgi(scope, receive, send)


class InstanceCall:
    """As sentry's middleware does it."""

    __slots__ = ("__call__",)

    def __init__(self):
        self.__call__ = self.run

    async def run(self, scope, receive, send): ...


class WsgiClass:
    def __init__(self, environ, start_response): ...
    def __iter__(self): ...


class AsgiClass:
    def __init__(self, scope, receive, send): ...
    def __await__(self): ...


@pytest.mark.parametrize("application, expected", [
    (wsgi, "wsgi"), (asgi, "asgi"), (sync_asgi, "asgi"), (wrapped_asgi, "asgi"), (wrapped_wsgi, "wsgi"),
    (bare_wrapper, "wsgi"), (bare_async_wrapper, "asgi"), (lambda environ, start_response: [], "wsgi"),
    (lambda e, s, extra=None: [], "wsgi"), (lambda a, b, c: [], "asgi"),
    (Wsgi(), "wsgi"), (Wsgi().method, "wsgi"), (Wsgi.static, "wsgi"), (Wsgi.make, "wsgi"),
    (Asgi(), "asgi"), (Asgi().method, "asgi"), (SyncAsgi(), "asgi"), (InstanceCall(), "asgi"),
    (functools.partial(wsgi), "wsgi"), (functools.partial(asgi), "asgi"), (functools.partial(Asgi()), "asgi"),
    (functools.partial(lambda config, environ, start_response: [], {}), "wsgi"),
    (functools.partial(functools.partial(asgi)), "asgi"),
    (WsgiClass, "wsgi"), (AsgiClass, "asgi"),
])
def test_interfaces_are_told_apart(application, expected):
    assert LOAD.detect(application, "app", "auto") == expected


@pytest.mark.parametrize("make, expected", [
    ("flask:Flask('x')", "wsgi"),
    ("fastapi:FastAPI()", "asgi"),
    ("starlette.applications:Starlette()", "asgi"),
    ("django.core.handlers.wsgi:WSGIHandler()", "wsgi"),
    ("django.core.handlers.asgi:ASGIHandler()", "asgi"),
])
def test_frameworks(make, expected):
    pytest.importorskip(make.partition(".")[0].partition(":")[0])
    if make.startswith("django"):
        import django
        from django.conf import settings

        if not settings.configured:
            settings.configure()
            django.setup()
    result = load(make)
    assert result[1] == expected, result


def test_the_interface_can_be_forced():
    assert LOAD.detect(bare_wrapper, "app", "asgi") == "asgi"
    assert LOAD.detect(asgi, "app", "wsgi") == "wsgi"


def fail(target, **more):
    result = load(target, **more)
    assert len(result) == 4, result
    return dict(zip(("stage", "message", "hint", "traceback"), result))


# What werkzeug's proxies do outside of a request.
PROXY = """
class Proxy:
    def raises(self, *_):
        raise RuntimeError("nothing here")
    __class__ = property(raises)
    __getattr__ = raises
    __call__ = raises
    __dir__ = raises
proxy = Proxy()
"""


@pytest.mark.parametrize("files, target, stage, message, hint", [
    ({}, "nowhere_to_be", "import", "there is no module 'nowhere_to_be'", "--chdir"),
    ({"site_app.py": ""}, "siteapp", "import", "there is no module 'siteapp'", "did you mean site_app?"),
    ({"src/mysite/__init__.py": ""}, "mysite", "import", "there is no module 'mysite'", "add --pythonpath src"),
    ({"src/mysite.py": ""}, "mysite.wsgi", "import", "there is no module 'mysite'", "add --pythonpath src"),
    ({"pkg/__init__.py": "", "pkg/wsgi.py": ""}, "pkg.wsgy", "import", "no module 'pkg.wsgy'", "mean pkg.wsgi?"),
    ({"pkg2/__init__.py": "", "pkg2/a.py": ""}, "pkg2.xxxx", "import", "no module 'pkg2.xxxx'", "pkg2 has a"),
    ({"app1.py": ""}, "app1.py", "import", "is a file name", "write app1"),
    ({"d/app2.py": ""}, "d/app2.py:app", "import", "is a file name", "write app2:app and add --pythonpath d"),
    ({}, ":app", "import", "names no module", "module:attribute"),
    ({"bad1.py": "import missing_thing"}, "bad1", "import", "No module named 'missing_thing'", "install"),
    ({"bad2.py": "def f(:"}, "bad2", "import", "SyntaxError", ""),
    ({"bad3.py": "1/0"}, "bad3", "import", "ZeroDivisionError: division by zero", ""),
    ({"bad4.py": "raise SystemExit(3)"}, "bad4", "import", "SystemExit(3)", "__main__"),
    ({"bad5.py": "raise KeyboardInterrupt"}, "bad5", "import", "KeyboardInterrupt", ""),
    ({"app3.py": "def application_(environ, start_response): ..."}, "app3", "attribute", "has none of application, app",
     "app3:application_"),
    ({"app4.py": "def handler(environ, start_response): ..."}, "app4:handle", "attribute", "no attribute 'handle'",
     "did you mean app4:handler?"),
    ({"app5.py": "def web(environ, start_response): ..."}, "app5:zzz", "attribute", "no attribute 'zzz'", "it has app5:web"),
    ({"app6.py": "x = 1"}, "app6:zzz", "attribute", "no attribute 'zzz'", "nothing that can be called"),
    ({"app7.py": "class A: ...\na = A()"}, "app7:a.b", "attribute", "'app7:a' has no attribute 'b'", ""),
    ({"app8.py": ""}, "app8:f(", "attribute", "cannot understand", "literal"),
    ({"app9.py": "f = print"}, "app9:f(open('x'))", "attribute", "cannot understand", "literal"),
    ({"app10.py": "f = print"}, "app10:f(**{})", "attribute", "cannot understand", "literal"),
    ({"fac1.py": "def create_app(): return None"}, "fac1", "factory", "create_app() returned None", "return app"),
    ({"fac2.py": "def create_app(): raise ValueError('x')"}, "fac2", "factory", "create_app() failed: ValueError: x", ""),
    ({"fac3.py": "def create_app(config): ..."}, "fac3", "factory", "missing 1 required positional", "arguments"),
    ({"fac4.py": "async def create_app(): ..."}, "fac4", "factory", "async function", "application itself"),
    ({"fac5.py": "x = 1"}, "fac5:x()", "factory", "cannot be called", ""),
    ({"fac6.py": "def create_app(): raise SystemExit(1)"}, "fac6", "factory", "SystemExit(1)", ""),
    ({"fac7.py": "def create_app(): return 5"}, "fac7", "interface", "type int, which cannot be called", ""),
    ({"int1.py": "app = 'text'"}, "int1", "interface", "type str, which cannot be called", ""),
    ({"int2.py": "def app(scope): ..."}, "int2", "interface", "ASGI 2", "asgiref"),
    ({"int3.py": "class app:\n def __init__(self, scope): ...\n async def __call__(self, r, s): ..."}, "int3", "interface",
     "ASGI 2 class", "asgiref"),
    ({"int4.py": "async def app(environ, start_response): ..."}, "int4", "interface", "is async but", "three"),
    ({"int5.py": "def app(a, b, c, d): ..."}, "int5", "interface", "takes 4 arguments", ""),
    ({"app11.py": "import time"}, "app11:time.asctme", "attribute", "no attribute 'asctme'", "mean app11:time.asctime?"),
    ({"app12.py": "import types"}, "app12:types.zzz", "attribute", "no attribute 'zzz'", "app12:types."),
    ({"app13.py": PROXY + "def web(environ, start_response): ..."}, "app13:zzz", "attribute", "no attribute", "app13:web"),
    ({"app14.py": PROXY}, "app14:proxy", "interface", "cannot be inspected: RuntimeError: nothing here", ""),
    ({"app15.py": PROXY}, "app15:proxy.x", "attribute", "RuntimeError: nothing here", ""),
    ({"fac8.py": "def create_two(config, debug=False): ..."}, "fac8:create_two", "interface", "needs one argument, 'config'",
     'call it with its argument: create_two("…")'),
    ({"int6.py": "class app:\n def __init__(self, x): ...\n def __call__(self, e, s): ..."}, "int6", "interface",
     "is a class", "instance"),
])
def test_failures_say_what_and_what_to_do(write, files, target, stage, message, hint):
    for name, text in files.items():
        write(name, text)
    failure = fail(target)
    assert failure["stage"] == stage
    assert message in failure["message"]
    assert hint in failure["hint"]
    assert "\n" not in failure["message"] + failure["hint"]


def test_tracebacks_are_the_applications_own(write):
    write("outer.py", "import inner\n")
    write("inner.py", "def f():\n    raise ValueError('deep')\nf()\n")
    failure = fail("outer")
    lines = [line for line in failure["traceback"].splitlines() if line.startswith("  File")]
    assert [line.partition(",")[0].rpartition("/")[2] for line in lines] == ['outer.py"', 'inner.py"', 'inner.py"']
    assert "inner.py, line 2" in failure["message"]
    assert "load.py" not in failure["traceback"] and "importlib" not in failure["traceback"]


def test_a_missing_import_of_the_application_is_not_a_missing_application(write):
    write("web.py", "import web.sub\n")
    failure = fail("web")
    assert failure["traceback"], "the module is there, something in it is not"


# --- through a zygote -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text, stage", [
    ("1/0", "import"), ("x = 1", "attribute"), ("def create_app(): 1/0", "factory"), ("app = 3", "interface"),
])
@pytest.mark.parametrize("preload", [False, True])
def test_boot_failures_reach_the_front(tmp_path, text, stage, preload):
    (tmp_path / "broken.py").write_text(text)
    with Zygote(tmp_path, app="broken", preload=preload) as zygote:
        if preload:
            assert zygote.wait_event("boot_failed")["failure"]["stage"] == stage
            assert zygote.process.wait(10) == EXIT_APP_LOAD
        else:
            worker = zygote.fork(1, boot=False)
            assert worker.boot_failure()["stage"] == stage
            assert worker.exited() == {"code": EXIT_APP_LOAD}


def test_a_huge_traceback_loses_its_middle(tmp_path):
    (tmp_path / "broken.py").write_text("raise ValueError('begin ' + 'é' * 100_000 + ' end')")
    with Zygote(tmp_path, app="broken") as zygote:
        failure = zygote.fork(1, boot=False).boot_failure()
        assert len(failure["traceback"].encode()) <= 64 << 10
        assert failure["traceback"].startswith("Traceback")
        assert failure["traceback"].rstrip().endswith("end")
        assert "left out" in failure["traceback"]
        assert len(failure["message"]) < 2000
