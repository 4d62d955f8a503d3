"""Patience with a venue: what may pass is asked again, what will not is explained in one sentence."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import ccxt
import dagster as dg
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt
from tenacity.wait import wait_exponential_jitter
from urllib3.exceptions import InvalidHeader
from urllib3.util import Retry

from lem_pipeline.errors import LemError, VenueBlockedError, VenueRefusedError, VenueUnreachableError

T = TypeVar("T")

BLOCKED = {403, 451}
LONGEST_WAIT_S = 300.0


@dataclass(frozen=True)
class Patience:
    """How one venue is asked.

    Attributes:
        venue: The venue, for error sentences.
        attempts: How often a request is tried before the venue counts as unreachable.
        backoff_s: Wait after the first failed attempt; it doubles with each further one.
    """

    venue: str
    attempts: int
    backoff_s: float

    def ask(self, call: Callable[[], T]) -> T:
        """What the venue answers to a call of its ccxt client.

        Raises:
            VenueBlockedError: It does not serve this country or network.
            VenueRefusedError: It turns this client or this request down.
            VenueUnreachableError: It is out of order after the last attempt, or answers in an unknown shape.
        """
        retrying = Retrying(
            retry=retry_if_exception(_may_pass),
            stop=stop_after_attempt(self.attempts),
            wait=self._wait_s,
            before_sleep=self._say,
            reraise=True,
        )
        try:
            return retrying(call)
        except ccxt.BaseError as error:
            raise self._explained(error) from error
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise VenueUnreachableError(
                f"{self.venue} answered in a shape it is not known for ({type(error).__name__}: {error}); "
                "try again later, or configure another venue."
            ) from error

    def _wait_s(self, state: RetryCallState) -> float:
        backoff = wait_exponential_jitter(initial=self.backoff_s, max=60, jitter=self.backoff_s)
        return backoff(state) + _retry_after_s(_failure(state))

    def _say(self, state: RetryCallState) -> None:
        wait_s = state.next_action.sleep if state.next_action else 0.0
        dg.get_dagster_logger().info(f"{self.venue}: {_what(_failure(state))}, trying again in {wait_s:.0f} s")

    def _explained(self, error: ccxt.BaseError) -> LemError:
        what, wait_s = _what(error), _retry_after_s(error)
        if _status(error) in BLOCKED:
            return VenueBlockedError(f"{self.venue} refuses to serve this country or network ({what}).")
        if wait_s > LONGEST_WAIT_S:
            return VenueRefusedError(
                f"{self.venue} asks to be left alone for at least {wait_s:.0f} seconds ({what}); try again after that."
            )
        match error:
            case ccxt.DDoSProtection() | ccxt.RateLimitExceeded():
                return VenueRefusedError(
                    f"{self.venue} still limits this client's rate after {self.attempts} attempts ({what}); "
                    "try again later."
                )
            case ccxt.OnMaintenance():
                return VenueUnreachableError(f"{self.venue} is under maintenance; try again later.")
            case ccxt.BadResponse():
                return VenueUnreachableError(
                    f"{self.venue} does not answer in JSON: its answer was cut off, or a proxy answered in its place; "
                    "check the network."
                )
            case ccxt.OperationFailed():
                return VenueUnreachableError(
                    f"{self.venue} could not be reached in {self.attempts} attempts ({what}); "
                    "check the network, or configure another venue."
                )
            case _:
                detail = " ".join(str(error).split())[:200]
                return VenueRefusedError(
                    f"{self.venue} turns the request down ({what}: {detail}); "
                    "check the instruments, or configure another venue."
                )


def _may_pass(error: BaseException) -> bool:
    passing = isinstance(error, ccxt.OperationFailed) and _status(error) not in BLOCKED
    return passing and _retry_after_s(error) <= LONGEST_WAIT_S


def _failure(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


def _response(error: BaseException | None) -> Any:
    # ccxt raises one class for 403, 451 and 503; only the HTTP error under it tells them apart.
    return getattr(error.__context__, "response", None) if error else None


def _status(error: BaseException | None) -> int | None:
    return getattr(_response(error), "status_code", None)


def _what(error: BaseException | None) -> str:
    status = _status(error)
    return f"HTTP {status}" if status else type(error).__name__


def _retry_after_s(error: BaseException | None) -> float:
    header = getattr(_response(error), "headers", {}).get("Retry-After", "0")
    try:
        return Retry().parse_retry_after(header)
    except InvalidHeader:
        return 0.0
