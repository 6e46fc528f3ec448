"""Answers that name a file for the front to send."""

import os

from flask import Flask, Response, request, send_file

app = Flask(__name__, static_folder=None)
app.config["USE_X_SENDFILE"] = True


@app.route("/named", methods=["GET", "POST"])
def named() -> Response:
    """The header and the file that the query says; everything else of this answer is about another body."""
    response = Response("the body of the application", int(request.args.get("status", "200")))
    response.headers.update({"X-Kept": "yes", "ETag": '"of the body"', "Content-Type": "application/x-kept"})
    response.headers[request.args["by"]] = request.args["file"]
    if "uncut" in request.args:
        response.headers["Accept-Ranges"] = "none"
    return response


@app.get("/sent/<path:name>")
def sent(name: str) -> Response:
    return send_file(os.path.join(os.environ["PRIVATE"], name))


@app.get("/wrapped/<path:name>")
def wrapped(name: str) -> Response:
    file = open(os.path.join(os.environ["PRIVATE"], name), "rb")  # noqa: SIM115 - whoever sends it closes it
    file.seek(request.args.get("from", 0, int))
    response = Response(request.environ["wsgi.file_wrapper"](file), direct_passthrough=True)
    if "etag" in request.args:
        response.headers["ETag"] = request.args["etag"]
    if "uncut" in request.args:
        response.headers["Accept-Ranges"] = "none"
    return response


@app.get("/<path:path>")
def other(path: str) -> Response:
    return Response("the application", 200)
