"""A venue on this computer: answers HTTP requests from recordings, and remembers what was asked."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import TracebackType
from typing import Self
from urllib.parse import parse_qsl, urlsplit

Query = dict[str, str]


@dataclass(frozen=True)
class Answer:
    """One HTTP answer; a body that is not text is sent as JSON."""

    body: object = ""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def payload(self) -> bytes:
        return (self.body if isinstance(self.body, str) else json.dumps(self.body)).encode()

    @property
    def content_type(self) -> str:
        return "text/html" if isinstance(self.body, str) else "application/json"


Route = Answer | Callable[[Query], Answer]


def in_turn(*answers: Answer) -> Callable[[Query], Answer]:
    """One answer after the other; the last one stays."""
    left = list(answers)
    return lambda _query: left.pop(0) if len(left) > 1 else left[0]


class ReplayServer:
    """Serves ``routes`` by path while the ``with`` block lasts; any other path is a 404."""

    def __init__(self, routes: dict[str, Route]):
        self.routes = routes
        self.requests: list[tuple[str, Query]] = []
        replay = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answer = replay._answer(self.path)
                self.send_response(answer.status)
                headers = {"Content-Type": answer.content_type, "Content-Length": str(len(answer.payload))}
                for name, value in (headers | dict(answer.headers)).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer.payload)

            do_POST = do_GET

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def asked(self, path: str) -> list[Query]:
        """The queries that reached ``path``, in order."""
        return [query for asked_path, query in self.requests if asked_path == path]

    def _answer(self, target: str) -> Answer:
        url = urlsplit(target)
        query = dict(parse_qsl(url.query))
        self.requests.append((url.path, query))
        route = self.routes.get(url.path, Answer(status=404))
        return route if isinstance(route, Answer) else route(query)

    def __enter__(self) -> Self:
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
