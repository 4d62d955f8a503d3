"""Faults of the network and of what stands in it: whatever was asked, the answer does not come as it should."""

import struct
from collections.abc import Callable
from http import HTTPStatus
from socket import SO_LINGER, SOL_SOCKET, socket
from time import sleep

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt

from lem_pipeline.replay.answers import Answer
from lem_pipeline.replay.faults import AnswerFault, DeliveryFault

BINANCE_PATH = "/api/"
BINANCE_WORDS = {
    418: (-1003, "Way too much request weight used; IP banned. Please use WebSocket Streams to avoid bans."),
    429: (-1003, "Too much request weight used; please use WebSocket Streams to avoid polling the API."),
    451: (0, "Service unavailable from a restricted location. Please contact customer service."),
}
LOGIN_PAGE = (
    "<!DOCTYPE html><html><head><title>Log in</title></head><body>Please log in to use this network.</body></html>"
)


class Timeout(DeliveryFault):
    """No answer at all, for as long as the client waits."""

    def deliver(self, connection: socket, send_head: Callable[[], None], payload: bytes) -> None:
        """Wait until the client hangs up."""
        connection.recv(1)


class ConnectionReset(DeliveryFault):
    """The connection breaks in the middle of the body."""

    def deliver(self, connection: socket, send_head: Callable[[], None], payload: bytes) -> None:
        """Send half the body, then reset."""
        send_head()
        connection.sendall(payload[: len(payload) // 2])
        # Without lingering, closing a socket resets the connection instead of ending it in good order.
        connection.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()


class SlowDrip(DeliveryFault):
    """The right answer, a few bytes at a time.

    Attributes:
        piece_bytes: Length of one piece.
        pause_s: Wait after each.
    """

    piece_bytes: PositiveInt = 64
    pause_s: NonNegativeFloat = 0.5

    def deliver(self, connection: socket, send_head: Callable[[], None], payload: bytes) -> None:
        """Send the body piece by piece."""
        send_head()
        for begin in range(0, len(payload), self.piece_bytes):
            connection.sendall(payload[begin : begin + self.piece_bytes])
            sleep(self.pause_s)


class Status(AnswerFault):
    """An HTTP error, in the words of the venue that was asked.

    Attributes:
        code: The status, such as 418, 429, 451 or 503.
        retry_after_s: What the header Retry-After says; without it, there is none.
    """

    code: int = Field(default=503, ge=400, le=599)
    retry_after_s: NonNegativeInt | None = None

    def answer(self, answer: Answer, path: str) -> Answer:
        """The error."""
        body: object = HTTPStatus(self.code).phrase
        if path.startswith(BINANCE_PATH) and self.code in BINANCE_WORDS:
            code, message = BINANCE_WORDS[self.code]
            body = {"code": code, "msg": message}
        headers = {} if self.retry_after_s is None else {"Retry-After": str(self.retry_after_s)}
        return Answer(body, self.code, headers)


class TruncatedBody(AnswerFault):
    """Half the answer, under headers that call it whole."""

    def answer(self, answer: Answer, path: str) -> Answer:
        """The first half of the body."""
        text = answer.payload.decode()
        return Answer(text[: len(text) // 2], answer.status, {"Content-Type": answer.content_type, **answer.headers})


class HtmlPage(AnswerFault):
    """A web page in the place of data, such as a proxy's login."""

    def answer(self, answer: Answer, path: str) -> Answer:
        """The page."""
        return Answer(LOGIN_PAGE)
