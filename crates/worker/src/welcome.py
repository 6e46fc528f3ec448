"""`monoceros.welcome`: an application for trying a server before there is one. `PAGE` is set by the loader."""

import platform

METHODS = ("GET", "HEAD")


def app(environ, start_response):
    if environ["REQUEST_METHOD"] not in METHODS:
        return answer(start_response, "405 Method Not Allowed", "text/plain; charset=utf-8", "405\n", ("Allow", "GET, HEAD"))
    if environ["PATH_INFO"] != "/":
        return answer(start_response, "404 Not Found", "text/plain; charset=utf-8", "404\n")
    facts = {
        "protocol": environ["SERVER_PROTOCOL"],
        "encrypted": "yes, HTTPS" if environ["wsgi.url_scheme"] == "https" else "no, plain HTTP",
        # Not more of the version than an attacker learns anyway.
        "python": ".".join(platform.python_version_tuple()[:2]),
    }
    page = PAGE  # noqa: F821
    for name, value in facts.items():
        page = page.replace("{{" + name + "}}", value)
    return answer(start_response, "200 OK", "text/html; charset=utf-8", page, ("Cache-Control", "no-store"))


def answer(start_response, status, content_type, text, *fields):
    body = text.encode()
    start_response(status, [("Content-Type", content_type), ("Content-Length", str(len(body))), *fields])
    return [body]
