"""Finds, imports and inspects the application, and explains in one line each what is wrong and what to do about it.

`load` and `adopt` return `(application, interface)`, or `(stage, message, hint, traceback)` when it cannot be served.
"""

import sys

DEFAULT_NAMES = ("application", "app")
FACTORY_NAMES = ("create_app", "make_app")
# The most of an exception's text that goes into a one-line message; the traceback has it all.
TEXT_MAX = 300


class Failure(Exception):
    """The application cannot be served."""

    def __init__(self, stage, message, hint="", traceback=""):
        self.fields = (stage, message, hint, traceback)


def load(target, interface, is_factory, python_path):
    for entry in reversed(python_path):
        if entry not in sys.path:
            sys.path.insert(0, entry)
    try:
        module_name, _, expression = target.partition(":")
        module = import_module(module_name.strip(), target)
        name, application, arguments = find(module, expression.strip(), is_factory)
        if arguments is not None:
            application = call_factory(application, name, *arguments)
        elif is_factory or inspected(is_plain_factory, application, name):
            application = call_factory(application, name, [], {})
        return application, inspected(detect, application, name, interface)
    except Failure as failure:
        return failure.fields


def adopt(application, interface):
    try:
        return application, inspected(detect, application, "the application", interface)
    except Failure as failure:
        return failure.fields


def inspected(function, application, name, *arguments):
    """Looks at an object of the application, which may fail in any way: proxies do, outside of what they stand for."""
    try:
        return function(application, name, *arguments)
    except Failure:
        raise
    except Exception as error:
        raise Failure("interface", f"{name} cannot be inspected: {summary(error)}", "name the application object") from None


# --- the module -------------------------------------------------------------------------------------------------------


def import_module(name, target):
    if not name:
        raise Failure("import", f"{target!r} names no module", "write module:attribute, for example app:application")
    if name.endswith(".py") or "/" in name:
        directory, _, file = name.rpartition("/")
        module = file.removesuffix(".py")
        hint = f"write {target.replace(name, module, 1)}" + (f" and add --pythonpath {directory}" if directory else "")
        raise Failure("import", f"{name!r} is a file name, not the name of a module", hint)
    try:
        __import__(name)
        return sys.modules[name]
    except ModuleNotFoundError as error:
        if is_missing(name, error):
            raise Failure("import", f"there is no module {error.name!r}", missing_hint(name, error.name)) from None
        message = f"importing {name!r} failed: {error}{place(error)}"
        hint = "install the missing package into the environment of " + sys.executable if error.name else ""
        raise Failure("import", message, hint, traceback_text(error)) from None
    except SystemExit as error:
        message = f"importing {name!r} ended with SystemExit({error.code!r}){place(error)}"
        hint = "keep what exits the program behind: if __name__ == '__main__'"
        raise Failure("import", message, hint, traceback_text(error)) from None
    except BaseException as error:
        message = f"importing {name!r} failed: {summary(error)}{place(error)}"
        raise Failure("import", message, "", traceback_text(error)) from None


def is_missing(name, error):
    """Whether the application's own module is missing, and not one that it imports."""
    is_ours = error.name is not None and (name == error.name or name.startswith(error.name + "."))
    return is_ours and not own_frames(error.__traceback__)


def missing_hint(name, missing):
    import difflib
    import os
    import pkgutil

    here = os.getcwd()
    first = name.partition(".")[0]
    if missing == first:
        for entry in sorted(os.scandir(here), key=lambda entry: entry.name):
            if entry.is_dir() and not entry.name.startswith("."):
                path = os.path.join(entry.path, first)
                if os.path.isfile(path + ".py") or os.path.isfile(os.path.join(path, "__init__.py")):
                    return f"there is one in {entry.name}/: add --pythonpath {entry.name}"
        known = [module.name for module in pkgutil.iter_modules([here])]
        wanted, prefix = first, ""
    else:
        package, _, wanted = missing.rpartition(".")
        known = [module.name for module in pkgutil.iter_modules(getattr(sys.modules.get(package), "__path__", []))]
        prefix = package + "."
    close = difflib.get_close_matches(wanted, known, 1)
    if close:
        return f"did you mean {prefix}{close[0]}?"
    if missing != first:
        return f"the package {package} has " + (", ".join(sorted(known)[:8]) or "no modules")
    return f"it was looked for in {here}; use --chdir for another directory, or install it"


# --- the attribute ----------------------------------------------------------------------------------------------------


def find(module, expression, is_factory):
    """The name, the object, and the arguments to call it with, if any were given."""
    if not expression:
        names = FACTORY_NAMES + DEFAULT_NAMES if is_factory else DEFAULT_NAMES + FACTORY_NAMES
        for name in names:
            if hasattr(module, name):
                # A factory by its name is one whatever its signature looks like.
                arguments = ([], {}) if name in FACTORY_NAMES else None
                return name, getattr(module, name), arguments
        message = f"module {module.__name__!r} has none of {', '.join(names)}"
        raise Failure("attribute", message, attribute_hint(module, None, module.__name__ + ":"))
    path, arguments = parse(expression)
    target, seen = module, module.__name__ + ":"
    for name in path:
        try:
            target = getattr(target, name)
        except AttributeError:
            owner = f"module {module.__name__!r}" if target is module else repr(seen)
            hint = attribute_hint(target, name, seen if target is module else seen + ".")
            raise Failure("attribute", f"{owner} has no attribute {name!r}", hint) from None
        except Exception as error:
            raise Failure("attribute", f"cannot look for {name!r} in {seen!r}: {summary(error)}") from None
        seen += name if seen.endswith(":") else "." + name
    return ".".join(path), target, arguments


def parse(expression):
    """`attr.sub` or `attr.sub("literal", name=1)`: only literals, nothing is evaluated."""
    import ast

    invalid = Failure(
        "attribute", f"cannot understand {expression!r}", "write an attribute, or a call with literal arguments"
    )
    try:
        node = ast.parse(expression, mode="eval").body
        arguments = None
        if isinstance(node, ast.Call):
            if any(keyword.arg is None for keyword in node.keywords):
                raise invalid
            positional = [ast.literal_eval(argument) for argument in node.args]
            arguments = (positional, {keyword.arg: ast.literal_eval(keyword.value) for keyword in node.keywords})
            node = node.func
    except (SyntaxError, ValueError):
        raise invalid from None
    path = []
    while isinstance(node, ast.Attribute):
        path.insert(0, node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        raise invalid
    return [node.id, *path], arguments


def attribute_hint(owner, wanted, prefix):
    import difflib

    def is_candidate(name):
        value = look(owner, name)
        return callable(value) and look(value, "__module__", owner_name) in (owner_name, None)

    owner_name = getattr(owner, "__name__", None)
    try:
        names = [name for name in dir(owner) if not name.startswith("_")]
    except Exception:
        names = []
    close = difflib.get_close_matches(wanted, names, 1) if wanted else []
    if close:
        return f"did you mean {prefix}{close[0]}?"
    instances = [name for name in names if looks_like_application(look(owner, name))]
    found = instances or [name for name in names if is_candidate(name)]
    if found:
        return "it has " + ", ".join(prefix + name for name in found[:8])
    return "it has nothing that can be called"


def look(owner, name, default=None):
    """An attribute, if it can be had: for a hint, nothing that it raises matters."""
    try:
        return getattr(owner, name, default)
    except Exception:
        return default


def looks_like_application(value):
    import inspect

    try:
        if isinstance(value, type) or inspect.isroutine(value) or not callable(value):
            return False
        detect(value, "", "auto")
    except Exception:
        return False
    return True


# --- factories --------------------------------------------------------------------------------------------------------


def call_factory(factory, name, positional, keywords):
    if not callable(factory):
        raise Failure("factory", f"{name} is {kind(factory)}, which cannot be called", "point at the factory itself")
    try:
        application = factory(*positional, **keywords)
    except SystemExit as error:
        message = f"{name}() ended with SystemExit({error.code!r}){place(error)}"
        raise Failure("factory", message, "", traceback_text(error)) from None
    except TypeError as error:
        if own_frames(error.__traceback__):
            message = f"{name}() failed: {summary(error)}{place(error)}"
            raise Failure("factory", message, "", traceback_text(error)) from None
        raise Failure("factory", f"cannot call {name}: {error}", f'give its arguments: {name}("…", name=1)') from None
    except BaseException as error:
        message = f"{name}() failed: {summary(error)}{place(error)}"
        raise Failure("factory", message, "", traceback_text(error)) from None
    if hasattr(application, "__await__") and not callable(application):
        getattr(application, "close", lambda: None)()
        raise Failure("factory", f"{name}() is an async function", "a factory must return the application itself")
    if application is None:
        raise Failure("factory", f"{name}() returned None", f"does {name} end with `return app`?")
    return application


def is_plain_factory(target, _name):
    """A function (or class) that needs no argument, and so is not to be called as an application."""
    import inspect

    if not (inspect.isroutine(target) or isinstance(target, type)):
        return False
    shape = Shape.of(target)
    if shape is None or shape.required > 0 or shape.is_variadic:
        return False
    return shape.positional < 2 or (inspect.isfunction(target) and not shape.names_an_interface())


# --- the interface ----------------------------------------------------------------------------------------------------


# What the parameters of applications are called.
INTERFACE_NAMES = {"environ", "env", "start_response", "start", "respond", "scope", "receive", "send"}


class Shape:
    """The positional parameters of a callable."""

    def __init__(self, parameters):
        positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        self.names = [parameter.name for parameter in positional]
        self.positional = len(positional)
        self.required = sum(parameter.default is parameter.empty for parameter in positional)
        self.is_variadic = any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters)

    @classmethod
    def of(cls, target):
        import inspect

        try:
            return cls(list(inspect.signature(target).parameters.values()))
        except (TypeError, ValueError):
            return None

    def names_an_interface(self):
        return not INTERFACE_NAMES.isdisjoint(self.names)

    def accepts(self, count):
        return self.required <= count and (self.is_variadic or count <= self.positional)


ASGI2_HINT = "ASGI 2 is from before 2019; wrap it with asgiref.compatibility.guarantee_single_callable"


def detect(application, name, interface):
    """`wsgi` or `asgi`."""
    import inspect

    if not callable(application):
        hint = "return the application from the factory" if name.endswith(")") else "name the application object"
        raise Failure("interface", f"{name} is {kind(application)}, which cannot be called", hint)
    if interface != "auto":
        return interface
    if isinstance(application, type):
        return detect_class(application, name)
    function = called_function(application)
    is_async = is_coroutine_function(function)
    shape = Shape.of(function)
    if shape is None:
        # Compiled without a signature: nearly always an old WSGI callable.
        return "asgi" if is_async else "wsgi"
    if is_async:
        if shape.accepts(3):
            return "asgi"
        message = f"{name} is async but does not take (scope, receive, send)"
        raise Failure("interface", message, "an ASGI application takes three arguments")
    if inspect.isfunction(application) and shape.required == 1 < shape.positional and not shape.names_an_interface():
        message = f"{name} needs one argument, {shape.names[0]!r}, like a function that makes an application"
        raise Failure("interface", message, f'if it is one, call it with its argument: {name}("…")')
    return detect_shape(shape, name)


def called_function(application):
    """What runs when the application is called: its `__call__`, unless it is a function or the like itself."""
    import functools
    import inspect

    if inspect.isroutine(application) or isinstance(application, functools.partial):
        return application
    return application.__call__


def is_coroutine_function(function):
    import functools
    import inspect

    while True:
        if inspect.iscoroutinefunction(function):
            return True
        if isinstance(function, functools.partial):
            function = function.func
        elif hasattr(function, "__wrapped__"):
            # A plain wrapper around a coroutine function returns its coroutine.
            function = function.__wrapped__
        elif not inspect.isroutine(function) and inspect.iscoroutinefunction(getattr(function, "__call__", None)):
            return True
        else:
            return False


def detect_shape(shape, name):
    if "receive" in shape.names and "send" in shape.names and shape.accepts(3):
        return "asgi"
    if "start_response" in shape.names and shape.accepts(2):
        return "wsgi"
    if shape.accepts(2):
        return "wsgi"
    if shape.accepts(3):
        return "asgi"
    if shape.accepts(1):
        raise Failure("interface", f"{name} takes one argument, like an ASGI 2 application", ASGI2_HINT)
    message = f"{name} takes {shape.required} arguments; a WSGI application takes 2 and an ASGI application 3"
    raise Failure("interface", message, "is it the application, or a function that makes one? Then call it: name()")


def detect_class(application, name):
    """A class is an application when making an instance is what serves a request."""
    shape = Shape.of(application)
    if hasattr(application, "__await__"):
        return "asgi"
    if hasattr(application, "__iter__") and (shape is None or shape.accepts(2)):
        return "wsgi"
    if shape is not None and shape.accepts(1) and shape.names[:1] == ["scope"]:
        raise Failure("interface", f"{name} is an ASGI 2 class", ASGI2_HINT)
    raise Failure("interface", f"{name} is a class, not an application", f"make an instance: {name}()")


# --- words ------------------------------------------------------------------------------------------------------------


def kind(value):
    return "None" if value is None else f"an object of type {type(value).__name__}"


def summary(error):
    """Type and first line of the text, as in the last line of a traceback."""
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    first = text.strip().partition("\n")[0]
    first = first if len(first) <= TEXT_MAX else first[:TEXT_MAX] + "…"
    name = type(error).__qualname__
    if type(error).__module__ not in ("builtins", "__main__"):
        name = f"{type(error).__module__}.{name}"
    return f"{name}: {first}" if first else name


def own_frames(frames):
    """The part of a traceback that is the application's: without ours and the import system's at its top."""
    while frames is not None:
        file = frames.tb_frame.f_code.co_filename
        if file != __file__ and not file.startswith("<frozen importlib"):
            return frames
        frames = frames.tb_next
    return None


def place(error):
    """Where it happened, for one-line messages."""
    frames = own_frames(error.__traceback__)
    if frames is None:
        if isinstance(error, SyntaxError) and error.filename:
            return f" ({error.filename}, line {error.lineno})"
        return ""
    while frames.tb_next is not None and own_frames(frames.tb_next) is not None:
        frames = own_frames(frames.tb_next)
    return f" ({frames.tb_frame.f_code.co_filename}, line {frames.tb_lineno})"


def traceback_text(error):
    import traceback

    error = error.with_traceback(own_frames(error.__traceback__))
    return "".join(traceback.format_exception(error))
