"""A WSGI worker over time: close(), cancellation, recall, threads, drain, the end of the link, and leaks."""

import gc
import os
import signal
import struct
import threading
import time

import pytest

from front import EXIT_LINK, RESPONSE_WINDOW, Aborted, Kind, Phase, Worker


def serve(app, **settings):
    return Worker(app, interface="wsgi", **settings)


class Body:
    """An iterable that says in the log when it is closed, and may fail on the way."""

    def __init__(self, pieces, fail_close=False):
        self.pieces = iter(pieces)
        self.fail_close = fail_close

    def __iter__(self):
        return self

    def __next__(self):
        piece = next(self.pieces)
        if isinstance(piece, Exception):
            raise piece
        return piece

    def close(self):
        print("closed", flush=True)
        if self.fail_close:
            raise RuntimeError("close failed")


def endless(size=1000):
    while True:
        yield b"x" * size


def body_app(make_body, headers=()):
    def app(environ, start_response):
        start_response("200 OK", list(headers))
        return make_body()

    return app


# --- close() ----------------------------------------------------------------------------------------------------------


def assert_closed_once(worker):
    worker.wait_log("closed")
    exchange = worker.request("GET", "/")
    try:
        exchange.response()
    except Aborted:
        pass
    exchange.wait_phase(Phase.FINISHED)
    assert worker.log().count("closed") == 2


@pytest.mark.parametrize("make_body, headers, abort", [
    (lambda: Body([b"a", b"b"]), [], None),
    (lambda: Body([]), [], None),
    (lambda: Body([b"abc"]), [("Content-Length", "3")], None),
    (lambda: Body([b"abcdef"]), [("Content-Length", "3")], None),
    (lambda: Body([b"a"]), [("Content-Length", "3")], "incomplete"),
    (lambda: Body([ValueError("before")]), [], "raised"),
    (lambda: Body([b"a", ValueError("after")]), [], "raised"),
    (lambda: Body(["text"]), [], "raised"),
])
def test_close_is_called_once(make_body, headers, abort):
    with serve(body_app(make_body, headers)) as worker:
        exchange = worker.request("GET", "/")
        if abort:
            assert exchange.abort_reason() == abort
        else:
            exchange.response()
        assert_closed_once(worker)


def test_close_is_called_once_without_start_response():
    with serve(lambda environ, start_response: Body([b"x"])) as worker:
        assert worker.request("GET", "/").abort_reason() == "incomplete"
        assert_closed_once(worker)


def test_close_comes_after_the_last_byte_and_before_finished():
    read, write = os.pipe()

    class Slow(Body):
        def close(self):
            os.read(read, 1)

    with serve(body_app(lambda: Slow([b"a"]))) as worker:
        exchange = worker.request("GET", "/")
        assert exchange.response().body == b"a"
        assert exchange.phase == Phase.ENTERED
        os.write(write, b"x")
        exchange.wait_phase(Phase.FINISHED)


def test_an_error_in_close_is_logged_and_harms_nothing():
    with serve(body_app(lambda: Body([b"a"], fail_close=True))) as worker:
        for _ in range(2):
            assert worker.get("/").body == b"a"
        assert "RuntimeError: close failed" in worker.wait_log("close failed")


def test_a_generator_finishes_after_its_announced_length():
    def app(environ, start_response):
        start_response("200 OK", [("Content-Length", "2")])
        yield b"ab"
        print("after the body", flush=True)
        yield b""
        print("at the end", flush=True)

    with serve(app) as worker:
        for _ in range(20):
            exchange = worker.request("GET", "/")
            assert exchange.response().body == b"ab"
            exchange.free()
        worker.get("/")
        worker.drain()
        assert worker.wait_exit() == 0
        assert worker.log().count("after the body") == worker.log().count("at the end") == 21


def test_an_endless_generator_is_stopped_after_its_announced_length():
    with serve(body_app(lambda: Body(endless()), [("Content-Length", "1500")])) as worker:
        assert len(worker.get("/").body) == 1500
        worker.wait_log("closed")


# --- cancel and recall ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2])
def test_a_cancelled_stream_stops_and_is_closed(threads):
    with serve(body_app(lambda: Body(endless())), threads=threads) as worker:
        exchange = worker.request("GET", "/")
        exchange.head()
        exchange.expect(Kind.DATA)
        exchange.cancel()
        worker.wait_log("closed")
        while not exchange.quiet(0.1):
            assert not exchange.next_frame().is_end
        assert not [line for line in worker.log().splitlines() if line != "closed"]


def test_a_cancel_frame_alone_ends_a_wait_for_credit():
    with serve(body_app(lambda: Body(endless()))) as worker:
        exchange = worker.request("GET", "/")
        received = len(exchange.head()[2])
        while received < RESPONSE_WINDOW:
            received += len(exchange.expect(Kind.DATA).payload)
        exchange.send(Kind.CANCEL)
        worker.wait_log("closed")
        # Nobody reads it, but it tells the front that the thread is free again.
        exchange.expect(Kind.ABORT)
        assert exchange.quiet()


def test_write_to_a_cancelled_stream_raises():
    def app(environ, start_response):
        write = start_response("200 OK", [])
        try:
            while True:
                write(b"x" * 1000)
        except BrokenPipeError:
            print("noticed", flush=True)
            raise

    with serve(app) as worker:
        exchange = worker.request("GET", "/")
        exchange.head()
        exchange.cancel()
        assert worker.wait_log("noticed") == "noticed\n"


def test_a_recalled_request_never_reaches_the_application():
    def app(environ, start_response):
        print(environ["PATH_INFO"], flush=True)
        start_response("200 OK", [])
        return []

    with serve(app) as worker:
        exchange = worker.open_stream()
        assert exchange.recall()
        recalled = raw_request(worker, exchange, b"/recalled")
        assert worker.get("/served").status == 200
        assert recalled.quiet()
        assert worker.log() == "/served\n"


def test_a_queued_request_can_be_recalled_while_another_runs():
    read, write = os.pipe()

    def app(environ, start_response):
        print(environ["PATH_INFO"], flush=True)
        if environ["PATH_INFO"] == "/slow":
            os.read(read, 1)
        start_response("200 OK", [])
        return [b""]

    with serve(app) as worker:
        slow = worker.request("GET", "/slow")
        slow.wait_phase(Phase.ENTERED)
        first, second = worker.request("GET", "/first"), worker.request("GET", "/second")
        assert first.recall()
        assert second.phase == Phase.HANDED
        os.write(write, b"x")
        assert slow.response().status == 200
        assert second.response().status == 200
        assert first.quiet()
        assert worker.log() == "/slow\n/second\n"


def raw_request(worker, exchange, path):
    """Sends a request on a stream whose cell the test has prepared."""
    from front import encode_fields, medium, short

    head = struct.pack("<BBBBQ", 0, 11, 0, 0, 0) + short(b"GET") + medium(path) + medium(b"")
    head += short(b"127.0.0.1") + struct.pack("<H", 1) + short(b"127.0.0.1") + struct.pack("<H", 80) + encode_fields([])
    worker.send_frame(exchange.stream, Kind.REQUEST, struct.pack("<II", exchange.cell, len(head)) + head, 1)
    return exchange


def test_the_page_tells_when_and_where_a_request_was_entered():
    def app(environ, start_response):
        start_response("200 OK", [])
        return [str(threading.get_ident()).encode()]

    with serve(app, threads=2) as worker:
        before = time.monotonic_ns()
        exchange = worker.request("GET", "/")
        thread = int(exchange.response().text)
        exchange.wait_phase(Phase.FINISHED)
        _, _, entered_at, entered_by = worker.page.read(exchange.cell)
        assert before <= entered_at <= time.monotonic_ns()
        assert entered_by == thread


def test_an_answer_does_not_wait_behind_a_slow_successor():
    read, write = os.pipe()

    def app(environ, start_response):
        if environ["PATH_INFO"] == "/slow":
            os.read(read, 1)
        start_response("200 OK", [])
        return [environ["PATH_INFO"].encode()]

    with serve(app) as worker:
        exchanges = [worker.request("GET", path) for path in ("/a", "/b", "/slow", "/c")]
        assert [exchange.response().body for exchange in exchanges[:2]] == [b"/a", b"/b"]
        exchanges[2].wait_phase(Phase.ENTERED)
        os.write(write, b"x")
        assert [exchange.response().body for exchange in exchanges[2:]] == [b"/slow", b"/c"]


# --- threads ----------------------------------------------------------------------------------------------------------


def test_four_threads_run_four_requests():
    barrier = threading.Barrier(4)

    def app(environ, start_response):
        barrier.wait(10)
        start_response("200 OK", [])
        return [threading.current_thread().name.encode()]

    with serve(app, threads=4) as worker:
        assert worker.ready == ("wsgi", 4)
        for _ in range(20):
            exchanges = [worker.request("GET", "/") for _ in range(4)]
            names = {exchange.response().text for exchange in exchanges}
            assert names == {"MainThread", "monoceros-2", "monoceros-3", "monoceros-4"}


def test_threads_under_load_answer_everything():
    def app(environ, start_response):
        start_response("200 OK", [])
        body = environ["wsgi.input"].read()
        return iter([body[:10], body[10:]]) if environ["PATH_INFO"] == "/iterate" else [body]

    with serve(app, threads=4) as worker:
        for round_number in range(50):
            sent = []
            for number in range(16):
                body = f"{round_number} {number} ".encode() * 50
                sent.append((worker.request("POST", ["/", "/iterate"][number % 2], body=body), body))
            for exchange, body in sent:
                assert exchange.response().body == body
                exchange.free()


def test_an_idle_thread_takes_requests_while_others_wait_for_credit():
    def app(environ, start_response):
        start_response("200 OK", [])
        return iter([b"x" * RESPONSE_WINDOW, b"end"]) if environ["PATH_INFO"] == "/big" else [b"small"]

    with serve(app, threads=3) as worker:
        big = [worker.request("GET", "/big") for _ in range(2)]
        for exchange in big:
            received = len(exchange.head()[2])
            while received < RESPONSE_WINDOW:
                received += len(exchange.expect(Kind.DATA).payload)
        for _ in range(20):
            assert worker.get("/").body == b"small"
        for exchange in big:
            exchange.window(100)
            assert exchange.expect(Kind.DATA).payload == b"end"
            assert exchange.expect(Kind.DATA).is_end


# --- the end ----------------------------------------------------------------------------------------------------------


def pausing_app():
    read, write = os.pipe()

    def app(environ, start_response):
        if environ["PATH_INFO"] == "/slow":
            while not os.read(read, 1):
                pass
        start_response("200 OK", [])
        return [b"done"]

    return app, lambda: os.write(write, b"x")


@pytest.mark.parametrize("threads", [1, 3])
def test_drain_finishes_what_was_handed_over(threads):
    app, go_on = pausing_app()
    with serve(app, threads=threads) as worker:
        slow = worker.request("GET", "/slow")
        slow.wait_phase(Phase.ENTERED)
        queued = [worker.request("GET", "/") for _ in range(5)]
        worker.drain()
        go_on()
        assert [exchange.response().body for exchange in [slow, *queued]] == [b"done"] * 6
        assert worker.wait_exit() == 0


@pytest.mark.parametrize("threads", [1, 3])
def test_drain_while_idle(threads):
    with serve(pausing_app()[0], threads=threads) as worker:
        worker.drain()
        assert worker.wait_exit(1.5) == 0


def test_drain_lets_a_stream_finish_that_needs_credit():
    def app(environ, start_response):
        start_response("200 OK", [])
        return iter([b"x" * (2 * RESPONSE_WINDOW)])

    with serve(app, threads=3) as worker:
        exchange = worker.request("GET", "/")
        exchange.wait_phase(Phase.ENTERED)
        worker.drain()
        exchange.window(RESPONSE_WINDOW)
        assert len(exchange.response(grant=False).body) == 2 * RESPONSE_WINDOW
        assert worker.wait_exit() == 0


@pytest.mark.parametrize("threads", [1, 3])
def test_the_end_of_the_link_ends_an_idle_worker(threads):
    with serve(pausing_app()[0], threads=threads) as worker:
        worker.socket.close()
        assert worker.wait_exit(1.5) == EXIT_LINK


def test_the_end_of_the_link_ends_a_worker_after_its_request():
    app, go_on = pausing_app()
    with serve(app) as worker:
        exchange = worker.request("GET", "/slow")
        exchange.wait_phase(Phase.ENTERED)
        worker.socket.close()
        go_on()
        assert worker.wait_exit() == EXIT_LINK


def test_the_end_of_the_link_stops_a_stream():
    with serve(body_app(lambda: Body(endless()))) as worker:
        worker.request("GET", "/").head()
        worker.socket.close()
        assert worker.wait_exit() == EXIT_LINK


@pytest.mark.parametrize("data", [
    struct.pack("<IIBBH", 1 << 21, 1, 1, 0, 0),
    struct.pack("<IIBBH", 0, 1, 99, 0, 0),
    struct.pack("<IIBBH", 3, 1, 1, 0, 0) + b"abc",
    struct.pack("<IIBBH", 0, 0, 16, 0, 0),
    struct.pack("<IIBBH", 0, 1, 1, 2, 0),
])
def test_nonsense_on_the_link_ends_the_worker(data):
    with serve(pausing_app()[0]) as worker:
        worker.send_raw(data)
        assert worker.wait_exit() == EXIT_LINK
        assert "does not speak this protocol" in worker.log()


def test_late_frames_of_ended_streams_are_harmless():
    with serve(body_app(lambda: [b"x"])) as worker:
        exchange = worker.request("GET", "/")
        exchange.response()
        exchange.window(10)
        exchange.send(Kind.CANCEL)
        assert worker.get("/").body == b"x"


def test_a_process_forked_by_the_application_does_not_hold_the_link():
    def app(environ, start_response):
        child = os.fork()
        if child == 0 and environ["PATH_INFO"] == "/stay":
            signal.alarm(20)  # it ends also when the test fails
            signal.pause()
        if child > 0 and environ["PATH_INFO"] == "/return":
            os.waitpid(child, 0)
        start_response("200 OK", [])
        return [str(child).encode()]

    with serve(app) as worker:
        child = int(worker.get("/stay").text)
        # This one returns into the worker and wants to answer, too.
        for _ in range(3):
            assert int(worker.get("/return").text) > 0
        worker.signal(signal.SIGKILL)
        worker.wait(lambda: worker.eof, "the end of the link")
        os.kill(child, signal.SIGKILL)


def test_system_exit_in_a_request_ends_the_worker_after_it():
    def app(environ, start_response):
        raise SystemExit(3)

    with serve(app) as worker:
        assert worker.request("GET", "/").abort_reason() == "raised"
        assert worker.wait_exit() == 3


def test_signal_handlers_of_the_application_run_while_it_is_idle():
    def setup():
        signal.signal(signal.SIGUSR1, lambda number, frame: print("got it", flush=True))

    with serve(body_app(lambda: [b"x"]), child_setup=setup) as worker:
        worker.signal(signal.SIGUSR1)
        worker.wait_log("got it")
        assert worker.get("/").body == b"x"


def test_signal_handlers_run_while_other_threads_read():
    def setup():
        signal.signal(signal.SIGUSR1, lambda number, frame: print("got it", flush=True))

    with serve(body_app(lambda: [b"x"]), child_setup=setup, threads=3) as worker:
        for count in range(1, 6):
            worker.get("/")
            worker.signal(signal.SIGUSR1)
            worker.wait_log("got it\n" * count)


# --- leaks ------------------------------------------------------------------------------------------------------------


def leak_app(environ, start_response):
    if environ["PATH_INFO"] == "/measure":
        gc.collect()
        with open("/proc/self/statm") as statm:
            pages = int(statm.read().split()[1])
        body = f"{pages * os.sysconf('SC_PAGE_SIZE')} {len(gc.get_objects())}".encode()
    elif environ["PATH_INFO"] == "/raise":
        raise ValueError("x")
    else:
        body = environ["wsgi.input"].read() + environ.get("HTTP_X_NAME", "").encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("X-Request", environ["PATH_INFO"])])
    return iter([body]) if environ["PATH_INFO"] == "/iterate" else [body]


def test_20000_requests_leave_nothing_behind():
    with serve(leak_app) as worker:

        def run(count):
            for start in range(0, count, 20):
                exchanges = [
                    worker.request("POST", f"/path{number}", [("x-name", str(number)), (f"x-{number}", "1")], b"body")
                    if number % 2 else worker.request("GET", "/iterate")
                    for number in range(start, start + 20)
                ]
                for exchange in exchanges:
                    exchange.response()
                    exchange.free()
            return [int(number) for number in worker.get("/measure").text.split()]

        run(2000)
        memory, objects = run(2000)
        memory_after, objects_after = run(16000)
        assert objects_after - objects < 50
        assert memory_after - memory < 1 << 20


def test_failing_requests_leave_nothing_behind():
    with serve(leak_app) as worker:

        def run(count):
            for _ in range(count):
                exchange = worker.request("GET", "/raise")
                assert exchange.abort_reason() == "raised"
                exchange.free()
            return int(worker.get("/measure").text.split()[1])

        run(50)
        before = run(10)
        assert run(500) - before < 50
