"""An ASGI application that answers with the names of the header fields it got, in their order."""

from typing import Any


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    body = b" ".join(name for name, _ in scope["headers"])
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})
