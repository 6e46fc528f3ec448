"""Answers that say in the query how they may be stored, and counts how often it was asked."""

import asyncio
from pathlib import Path
from urllib.parse import parse_qs

asked: dict[str, int] = {}


async def app(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError
    query = parse_qs(scope["query_string"].decode())
    target = scope["raw_path"].decode() + "?" + scope["query_string"].decode()
    asked[target] = count = asked.get(target, 0) + 1
    headers = dict(scope["headers"])
    if "wait" in query:
        Path(query["wait"][0] + ".asked").touch()
        while not Path(query["wait"][0]).exists():
            await asyncio.sleep(0.01)
    fields = [(b"x-asked", str(count).encode()), (b"content-type", b"text/plain")]
    for name in ("cache-control", "etag", "vary", "cache-tag", "set-cookie"):
        fields += [(name.encode(), value.encode()) for value in query.get(name, [])]
    if "then" in query and count > 1:
        if query["then"][0] == "raise":
            raise RuntimeError("as asked")
        status = int(query["then"][0])
    else:
        status = 200
    if "then" not in query and query.get("etag") and headers.get(b"if-none-match", b"") == query["etag"][0].encode():
        status = 304
    await send({"type": "http.response.start", "status": status, "headers": fields})
    body = b"" if status == 304 else b"0123456789"
    if "stream" in query:
        await send({"type": "http.response.body", "body": body[:5], "more_body": True})
        body = body[5:]
    await send({"type": "http.response.body", "body": body})
