"""A local HTTP server that answers in a venue's place, remembers what was asked, and fails where it is told to."""

import sys
from collections.abc import Callable, Mapping, Sequence
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import socket
from threading import Thread
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

from lem_pipeline.errors import ConfigurationError
from lem_pipeline.replay.answers import Answer, Page, Query, Route
from lem_pipeline.replay.bars import Clock
from lem_pipeline.replay.catalogue import described, parse
from lem_pipeline.replay.faults import AnswerFault, DeliveryFault, Fault, RowFault, Switchboard

CONTROL = "/-/faults"


class ReplayServer:
    """Serves ``routes`` by path on 127.0.0.1 while the ``with`` block lasts; any other path is a 404.

    A path that ends in ``/*`` serves all names beneath it; the route finds the name under ``symbol`` in its query. The
    path ``/-/faults`` says which faults are on and which there are; a POST of fault texts switches to those.

    Attributes:
        routes: An answer per path, or a function of the query.
        faults: Which faults are on.
        url: Where the server listens.
        requests: Path and query of every request so far, those of ``/-/faults`` left out.
    """

    def __init__(
        self,
        routes: Mapping[str, Route],
        *,
        faults: Sequence[Fault] = (),
        clock: Clock | None = None,
        port: int = 0,
        log: Callable[[str], None] = lambda _: None,
    ):
        """Listen at once, answer within the ``with`` block.

        Args:
            routes: An answer per path, or a function of the query.
            faults: On from the start.
            clock: What the header Date says; real time unless given.
            port: Where to listen; 0 chooses a free port.
            log: Told about every request.

        Raises:
            ConfigurationError: The port is taken.
        """
        self.routes = dict(routes)
        self.faults = Switchboard(faults)
        self.requests: list[tuple[str, Query]] = []
        self._log = log
        handler = type("Handler", (_Handler,), {"replay": self, "clock": staticmethod(clock or Clock())})
        try:
            self._server = _Server(("127.0.0.1", port), handler)
        except OSError as error:
            raise ConfigurationError(f"port {port} cannot be listened on ({error.strerror}); choose another") from error
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def asked(self, path: str) -> list[Query]:
        """The queries that reached ``path``, in order."""
        return [query for asked_path, query in self.requests if asked_path == path]

    def answer(self, target: str, body: str | None) -> tuple[Answer, DeliveryFault | None]:
        """What to send for a request, and the fault that spoils its delivery, if one does.

        Args:
            target: Path and query.
            body: What was sent with it; None where it only asks.
        """
        url = urlsplit(target)
        if url.path == CONTROL:
            return self._control(body), None
        query = dict(parse_qsl(url.query))
        self.requests.append((url.path, query))
        route, query = self._route(url.path, query)
        struck = self.faults.striking(url.path, query)
        answer = route if isinstance(route, Answer) else route(query)
        if isinstance(answer, Page):
            rows = answer.rows
            for fault in struck:
                rows = fault.rows(rows) if isinstance(fault, RowFault) else rows
            answer = answer.shape(rows)
        for fault in struck:
            answer = fault.answer(answer, url.path) if isinstance(fault, AnswerFault) else answer
        self._log(f"{target} {answer.status} {' '.join(map(str, struck))}".rstrip())
        return answer, next((fault for fault in struck if isinstance(fault, DeliveryFault)), None)

    def _route(self, path: str, query: Query) -> tuple[Route, Query]:
        if path in self.routes:
            return self.routes[path], query
        folder, _, name = path.rpartition("/")
        return self.routes.get(f"{folder}/*", Answer(status=404)), query | {"symbol": name}

    def _control(self, texts: str | None) -> Answer:
        if texts is not None:
            try:
                self.faults.replace(parse(texts))
            except ConfigurationError as error:
                return Answer({"error": str(error)}, status=400)
        return Answer({"on": [str(fault) for fault in self.faults.on], "faults": described()})

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


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are what faults are for; any other error is ours and is printed."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    replay: ReplayServer
    clock: Clock
    connection: socket

    def do_GET(self) -> None:
        self._reply(None)

    def do_POST(self) -> None:
        self._reply(self.rfile.read(int(self.headers.get("Content-Length", 0))).decode())

    def date_time_string(self, timestamp: float | None = None) -> str:
        return format_datetime(self.clock(), usegmt=True)

    def log_message(self, *_: object) -> None:
        pass

    def _reply(self, body: str | None) -> None:
        answer, fault = self.replay.answer(self.path, body)

        def send_head() -> None:
            self.send_response(answer.status)
            headers = {"Content-Type": answer.content_type, "Content-Length": str(len(answer.payload))}
            for name, value in (headers | dict(answer.headers)).items():
                self.send_header(name, value)
            self.end_headers()

        if fault is not None:
            fault.deliver(self.connection, send_head, answer.payload)
        else:
            send_head()
            self.wfile.write(answer.payload)
