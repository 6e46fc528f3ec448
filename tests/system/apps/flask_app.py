"""A Flask application: templates, forms, streaming both ways."""

import hashlib

from flask import (
    Flask,
    Response,
    jsonify,
    redirect,
    render_template_string,
    request,
    session,
    stream_with_context,
    url_for,
)

app = Flask(__name__)
app.secret_key = "only for tests"
# Werkzeug's own limits stay out of the way: the server's are tested.
app.config["MAX_FORM_MEMORY_SIZE"] = None

BLOCK = bytes(range(256)) * 1024  # 256 KiB

PAGE = """<!doctype html><title>Flask</title><h1>Hello {{ name }}</h1>
<p id=address>{{ request.remote_addr }}</p><p id=url>{{ url_for('greet', name=name, _external=True) }}</p>"""


@app.get("/hello/<name>")
def greet(name):
    return render_template_string(PAGE, name=name)


@app.post("/login")
def login():
    session["user"] = request.form["user"]
    return redirect(url_for("whoami"))


@app.get("/whoami")
def whoami():
    return jsonify(user=session.get("user"), secure=request.is_secure, host=request.host)


@app.get("/download/<int:length>")
def download(length):
    def blocks():
        left = length
        while left > 0:
            yield BLOCK[: min(left, len(BLOCK))]
            left -= len(BLOCK)

    # No Content-Length on purpose: the server has to frame a stream of unknown length.
    return Response(stream_with_context(blocks()), mimetype="application/octet-stream")


@app.route("/upload", methods=["POST", "PUT"])
def upload():
    checksum, length = hashlib.sha256(), 0
    while block := request.stream.read(262144):
        checksum.update(block)
        length += len(block)
    return jsonify(length=length, sha256=checksum.hexdigest())


@app.post("/form")
def form():
    file = request.files["file"]
    return jsonify(name=file.filename, sha256=hashlib.sha256(file.read()).hexdigest(), note=request.form["note"])


@app.get("/broken")
def broken():
    raise RuntimeError("raised on purpose")
