"""Requests in the background: many tests look at the program while a request is under way."""

from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

import httpx


class Background:
    """Sends requests from threads of their own, each on a fresh connection."""

    def __init__(
        self,
        base_url: str,
        at_once: int = 64,
        timeout: float = 90.0,
        local_address: str | None = None,
        verify: bool = True,
    ) -> None:
        self._base_url = base_url
        self._local_address = local_address
        self._verify = verify
        self._timeout = timeout
        self._threads = ThreadPoolExecutor(at_once)

    def __enter__(self) -> "Background":
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        # After a failure nobody waits for answers that may never come.
        self._threads.shutdown(wait=kind is None, cancel_futures=True)

    def request(self, method: str, path: str, **options: object) -> "Future[httpx.Response]":
        return self._threads.submit(self._send, method, path, options)

    def get(self, path: str, **options: object) -> "Future[httpx.Response]":
        return self.request("GET", path, **options)

    def post(self, path: str, **options: object) -> "Future[httpx.Response]":
        return self.request("POST", path, **options)

    def put(self, path: str, **options: object) -> "Future[httpx.Response]":
        return self.request("PUT", path, **options)

    def _send(self, method: str, path: str, options: dict[str, object]) -> httpx.Response:
        transport = httpx.HTTPTransport(verify=self._verify, local_address=self._local_address)
        with httpx.Client(base_url=self._base_url, timeout=self._timeout, transport=transport) as client:
            return client.request(method, path, **options)  # type: ignore[arg-type]

