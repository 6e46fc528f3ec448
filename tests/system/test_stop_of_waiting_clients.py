"""Clients from whom nothing has come yet, or who wait for a server that is not ready: neither delays the stop."""

import signal
from pathlib import Path

from harness import Server, eventually
from harness.certificate import Certificate
from harness.raw import RawConnection


def test_a_silent_connection_on_a_tls_port_does_not_delay_the_stop(certificate: Certificate) -> None:
    with Server("plain_wsgi:app", *certificate.flags, binds=["https://127.0.0.1:0"]) as server:
        with RawConnection(server.https_url):
            assert server.stop() < 10


def test_a_client_that_waits_for_the_first_worker_is_answered(tmp_path: Path) -> None:
    (tmp_path / "slow_import.py").write_text("import time\ntime.sleep(60)\napp = None\n")
    server = Server("slow_import:app", cwd=tmp_path)
    server._wait_until_ready = lambda: None  # type: ignore[method-assign]
    with server:
        eventually(lambda: server.worker_pids(), "a worker that is importing")
        server.expect_clean_stop = False
        with RawConnection(server.url) as connection:
            connection.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            server.process.send_signal(signal.SIGTERM)
            assert connection.response().status == 503
        server.process.wait(20)
        server.expect_nothing_left()
