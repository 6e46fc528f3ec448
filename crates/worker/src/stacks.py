"""What a worker tells about itself when it gets `SIGNAL_STACKS`: the stack of every thread and of every asyncio task, as
one line of JSON. Runs in the main thread, whenever the interpreter gets to it; costs nothing until then."""

import os
import sys
import threading

# Frames of one stack that are told; of a longer one its innermost.
FRAMES_MAX = 60
TASKS_MAX = 200


def install(descriptor, stacks_signal, dump_signal, take_asked, tasks_of_requests, turns, deadline_exceeded, raise_in):
    """Puts the handlers on their signals. `descriptor` is the pipe to the supervisor."""
    import faulthandler
    import signal

    def tell(_number, frame):
        asked = take_asked()
        try:
            _write(descriptor, {**_collect(frame, tasks_of_requests), "turns": turns()})
        except Exception as error:
            sys.stderr.write(f"monoceros: the stacks of this worker could not be told: {error!r}\n")
        here = threading.get_ident()
        for ident in asked:
            if ident != here:
                raise_in(ident, deadline_exceeded)
        # This ends a sleep or a read in the main thread, too: the exception comes out of it.
        if here in asked:
            raise deadline_exceeded("the request has passed its time-out")

    signal.signal(stacks_signal, tell)
    faulthandler.register(dump_signal, file=descriptor, all_threads=True, chain=False)


def _write(descriptor, report):
    import json

    text = memoryview(json.dumps(report, ensure_ascii=True).encode() + b"\n")
    while text:
        text = text[os.write(descriptor, text):]


def _collect(frame, tasks_of_requests):
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    here = threading.get_ident()
    threads = []
    for ident, innermost in sys._current_frames().items():
        stack = _lines(_outwards(frame if ident == here else innermost))
        threads.append({"ident": ident, "name": names.get(ident, ""), "is_main": ident == here, "stack": stack})
    return {"threads": threads, "tasks": [_task(stream, task) for stream, task in tasks_of_requests()[:TASKS_MAX]]}


def _task(stream, task):
    frames = []
    for awaited in _waiting_for(task):
        frames += _await_chain(awaited.get_coro())
    return {"stream": stream, "name": task.get_name(), "stack": _lines(reversed(frames[-FRAMES_MAX:]))}


def _waiting_for(task):
    """The task, and the one it waits for, and so on."""
    import asyncio

    chain = []
    while isinstance(task, asyncio.Task) and task not in chain:
        chain.append(task)
        task = getattr(task, "_fut_waiter", None)
    return chain


def _await_chain(awaitable):
    """The frames of a coroutine and of all that it awaits, outermost first."""
    import gc
    import types

    frames = []
    while awaitable is not None and len(frames) < 1000:
        for kind, following in (("cr", "cr_await"), ("gi", "gi_yieldfrom"), ("ag", "ag_await")):
            frame = getattr(awaitable, f"{kind}_frame", None)
            if frame is not None:
                frames.append(frame)
                awaitable = getattr(awaitable, following, None)
                break
        else:
            # What `async for` waits for hides the generator behind an object without attributes.
            inner = (found for found in gc.get_referents(awaitable) if isinstance(found, types.AsyncGeneratorType))
            awaitable = next(inner, None)
    return frames


def _outwards(frame):
    frames = []
    while frame is not None and len(frames) < FRAMES_MAX:
        frames.append(frame)
        frame = frame.f_back
    return frames


def _lines(frames):
    """File, line, function and source of frames that are given innermost first; outermost first, without ours."""
    import linecache

    lines = []
    for frame in frames:
        code = frame.f_code
        if code.co_filename == "<monoceros>":
            continue
        number = frame.f_lineno or code.co_firstlineno
        source = linecache.getline(code.co_filename, number, frame.f_globals).strip()
        lines.append([code.co_filename, number, code.co_name, source])
    lines.reverse()
    return lines
