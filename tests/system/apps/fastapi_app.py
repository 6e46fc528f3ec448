"""A FastAPI application: validated JSON, dependencies, upload, WebSocket, background task."""

import contextlib
import hashlib
import os
from typing import Annotated

from fastapi import BackgroundTasks, Depends, FastAPI, Header, HTTPException, Request, UploadFile, WebSocket
from pydantic import BaseModel


@contextlib.asynccontextmanager
async def lifespan(app: FastAPI):
    yield {"started_by": os.getpid()}


app = FastAPI(lifespan=lifespan)


class Item(BaseModel):
    name: str
    price: float


def token(x_token: Annotated[str, Header()]) -> str:
    if x_token != "open":
        raise HTTPException(403, "wrong token")
    return x_token


@app.post("/items", status_code=201)
async def create(item: Item) -> Item:
    return item


@app.get("/guarded")
def guarded(token: Annotated[str, Depends(token)]) -> dict[str, str]:
    # A plain function: FastAPI runs it in its thread pool.
    return {"token": token}


@app.post("/upload")
async def upload(file: UploadFile) -> dict[str, object]:
    content = await file.read()
    return {"name": file.filename, "length": len(content), "sha256": hashlib.sha256(content).hexdigest()}


@app.get("/state")
async def state(request: Request) -> dict[str, int]:
    return {"started_by": request.state.started_by, "pid": os.getpid()}


@app.get("/later")
async def later(record: str, tasks: BackgroundTasks) -> str:
    def work() -> None:
        with open(os.path.join(record, "events"), "a") as events:
            events.write("worked\n")

    tasks.add_task(work)
    return "answered"


@app.websocket("/echo/{room}")
async def echo(websocket: WebSocket, room: str) -> None:
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_json({"room": room, "text": text})
