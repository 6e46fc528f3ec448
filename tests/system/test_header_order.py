"""The order of header fields in a scope."""

import httpx
import pytest

from harness import Server
from harness.certificate import Certificate


@pytest.mark.parametrize("is_http2", [False, True], ids=["h1", "h2"])
def test_host_comes_first(certificate: Certificate, is_http2: bool) -> None:
    """ASGI: what was `:authority` in HTTP/2 is the field `host`, before all others."""
    arguments = ("--lifespan", "off", *certificate.flags)
    with (
        Server("header_order:app", *arguments, binds=["https://127.0.0.1:0"]) as server,
        httpx.Client(verify=certificate.context(), http1=not is_http2, http2=is_http2) as client,
    ):
        answer = client.get(server.https_url, headers={"x-first": "1"})
        names = answer.text.split()
        assert answer.http_version == ("HTTP/2" if is_http2 else "HTTP/1.1")
        assert names.count("host") == 1
        assert names[0] == "host"
