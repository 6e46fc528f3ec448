"""Applications in every shape that a server has to recognise."""

import os


def _answer(start_response, text):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(text)))])
    return [text.encode()]


def app(environ, start_response):
    return _answer(start_response, "wsgi function")


application = app


class WsgiInstance:
    def __call__(self, environ, start_response):
        return _answer(start_response, "wsgi instance")


class AsgiInstance:
    async def __call__(self, scope, receive, send):
        await _respond(scope, receive, send, "asgi instance")


class AsgiDecorated:
    """Its `__call__` is not a coroutine function, it only returns an awaitable: decorated applications look so."""

    def __call__(self, scope, receive, send):
        return _respond(scope, receive, send, "asgi decorated")


async def _respond(scope, receive, send, text):
    if scope["type"] != "http":
        raise RuntimeError("only http here")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": text.encode()})


wsgi_instance = WsgiInstance()
asgi_instance = AsgiInstance()
asgi_decorated = AsgiDecorated()


async def asgi_function(scope, receive, send):
    await _respond(scope, receive, send, "asgi function")


def make_wsgi():
    def made(environ, start_response):
        return _answer(start_response, f"wsgi factory {os.getpid()}")

    return made


def make_asgi():
    return AsgiInstance()


class holder:
    app = wsgi_instance


not_callable = 42


def factory_that_fails():
    raise ValueError("the factory failed on purpose")
