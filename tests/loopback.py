"""A web server on loopback that answers as a test tells it to, and sessions that go there."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit


class Answer(NamedTuple):
    """What the server says."""

    body: str
    status: int = 200
    headers: dict[str, str] = {}  # noqa: RUF012 (never changed)


class Loopback:
    """Answers of `reply(path, query)`; `asked` lists the paths with their queries.

    A path begins with the host that was meant: /api.example.com/v1/bars.
    """

    def __init__(self, reply: Callable[[str, dict[str, str]], Answer]) -> None:
        self.asked: list[tuple[str, dict[str, str]]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                query = dict(parse_qsl(parts.query))
                outer.asked.append((parts.path, query))
                answer = reply(parts.path, query)
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer.body.encode())

            def log_message(self, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def asked_for(self, part: str) -> list[dict[str, str]]:
        """Queries of the paths that contain `part`, in order."""
        return [query for path, query in self.asked if part in path]

    def session_of(self, base: type, **options: Any) -> Any:
        """A session of a class with `request(method, url)` whose every request comes here."""
        root = f"http://127.0.0.1:{self.server.server_port}/"

        class Redirected(base):
            def request(self, method: str, url: str, *args: Any, **kwargs: Any) -> Any:
                return super().request(method, root + url.split("://")[1], *args, **kwargs)

        return Redirected(**options)


@contextmanager
def serve(reply: Callable[[str, dict[str, str]], Answer]) -> Iterator[Loopback]:
    """A server that runs until the block ends; then its port refuses connections."""
    loopback = Loopback(reply)
    thread = threading.Thread(target=loopback.server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield loopback
    finally:
        loopback.server.shutdown()
        loopback.server.server_close()
        thread.join()
