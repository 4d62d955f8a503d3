"""Many orders of one model traded in lockstep: a closed bar for each market in, every next child order out.

Each order is an :class:`~lem_models.session.ExecutionSession`, with all that it keeps and refuses. The book tells bars
of a symbol to all its orders, and decides orders that are as many bars old in one pass of the network.
"""

import json
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

from lem_models.advice import Advice
from lem_models.decision import decide
from lem_models.events import ClosedBar, Fill, ParentOrder, SessionError
from lem_models.layers.carried import CarriedRecurrence
from lem_models.lem import LEM
from lem_models.session import ExecutionSession, identity

VERSION = 1
"""Of saved states."""


class RefusedOrdersError(SessionError):
    """What some sessions of a book refuse; all others have taken it.

    Attributes:
        reasons: Why, by order.
        advice: Of all others, where advice was asked for.
    """

    def __init__(self, reasons: Mapping[str, str], advice: Mapping[str, Advice] | None = None) -> None:
        self.reasons, self.advice = dict(reasons), dict(advice or {})
        super().__init__("; ".join(f"order {name}: {reason}" for name, reason in reasons.items()))


class SessionBook:
    """Orders under way, of one model and any markets; they join and leave at any bar.

    Args:
        model: A loaded LEM.

    Attributes:
        sessions: Every order's session, by order; what one of them alone is told may be told to it directly.

    Example:
        >>> from lem_models.config import LEMConfig
        >>> from lem_models.events import Outlook
        >>> from lem_models.orders import Benchmark, Side, Target
        >>> book = SessionBook(LEM(LEMConfig(("calm",), lookback=2, horizon=4, width=4, prior="curve")))
        >>> ahead = Outlook({"calm": 0.0}, volatility=0.01, expected_volume=(5000.0,) * 4)
        >>> for number in (1, 2):
        ...     _ = book.on_bars({"AAPL": ClosedBar(number, 100.0, 100.0, 5000.0, ahead)})
        >>> for name, side in (("1", Side.BUY), ("2", Side.SELL)):
        ...     book.open(ParentOrder(name, "AAPL", side, Benchmark.TWAP, Target.QUANTITY, 400.0, 4, lot_size=1.0))
        >>> {name: advice.bar for name, advice in book.advise().items()}
        {'1': 1, '2': 1}
    """

    def __init__(self, model: LEM) -> None:
        self.model = model
        self.sessions: dict[str, ExecutionSession] = {}
        self._history: dict[str, deque[ClosedBar]] = {}
        self._of_symbol: dict[str, dict[str, ExecutionSession]] = {}
        self._carried: dict[int, CarriedRecurrence] = {}  # by age of the orders, which each step makes one bar older

    def open(self, order: ParentOrder) -> None:
        """Let an order join: it begins with the bar after the last one told of its symbol.

        Raises:
            SessionError: The order does not fit the model, or one of its name is under way.
        """
        if order.order_id in self.sessions:
            raise SessionError(f"order {order.order_id} is under way; give the new one another order_id")
        session = ExecutionSession(order, self.model)
        for bar in self._history.get(order.symbol, ()):
            session.on_bar(bar)
        self._keep(session)

    def _keep(self, session: ExecutionSession) -> None:
        order = session.order
        self.sessions[order.order_id] = session
        self._of_symbol.setdefault(order.symbol, {})[order.order_id] = session

    def close(self, order_id: str) -> ExecutionSession:
        """Let an order leave; its session may still be asked for its outcome.

        Raises:
            SessionError: There is none of the name.
        """
        session = self._session(order_id)
        del self.sessions[order_id], self._of_symbol[session.order.symbol][order_id]
        return session

    def on_bars(self, bars: Mapping[str, ClosedBar]) -> dict[str, list[str]]:
        """Take a closed bar of each symbol; sentences on what is unusual about it, by order.

        Raises:
            RefusedOrdersError: Some orders refuse theirs, for which nothing has changed; all others have taken it.
        """
        notices: dict[str, list[str]] = {}
        reasons: dict[str, str] = {}
        for symbol, bar in bars.items():
            refused = False
            for name, session in self._of_symbol.get(symbol, {}).items():
                try:
                    if said := session.on_bar(bar):
                        notices[name] = said
                except SessionError as error:
                    reasons[name], refused = str(error), True
            if not refused:
                self._history.setdefault(symbol, deque(maxlen=self.model.config.lookback)).append(bar)
        if reasons:
            raise RefusedOrdersError(reasons)
        return notices

    def on_fill(self, order_id: str, fill: Fill) -> list[str]:
        """Take an own fill of an order; sentences on what is unusual about it.

        Raises:
            SessionError: As ``ExecutionSession.on_fill``, or there is no such order.
        """
        return self._session(order_id).on_fill(fill)

    def _session(self, order_id: str) -> ExecutionSession:
        if order_id not in self.sessions:
            raise SessionError(f"there is no order {order_id} under way")
        return self.sessions[order_id]

    def advise(self) -> dict[str, Advice]:
        """The next child order of every order, decided in one pass for all that are as many bars old.

        Raises:
            RefusedOrdersError: Some orders cannot begin, or the network overflows on them; it holds the others' advice.
        """
        advice: dict[str, Advice] = {}
        ages: dict[int, list[ExecutionSession]] = {}
        reasons: dict[str, str] = {}
        for name, session in self.sessions.items():
            try:
                if session.has_to_decide():
                    ages.setdefault(session.record.steps_over, []).append(session)
                else:
                    advice[name] = session.nothing_to_do()
            except SessionError as error:
                reasons[name] = str(error)
        carried = {age: self._carried_to(age) for age in ages}
        for age, sessions in ages.items():
            decided = decide(self.model, [session.record for session in sessions], carried[age])
            for session, decision in zip(sessions, decided, strict=True):
                try:
                    advice[session.order.order_id] = session.advise_as(decision)
                except FloatingPointError as error:
                    reasons[session.order.order_id] = str(error)
        self._carried = carried
        ordered = {name: advice[name] for name in self.sessions if name in advice}
        if reasons:
            raise RefusedOrdersError(reasons, ordered)
        return ordered

    def _carried_to(self, age: int) -> CarriedRecurrence:
        """What was scanned for orders that were a bar younger, or as old where advice is asked for again."""
        found = self._carried.get(age - 1) or self._carried.get(age)
        return found or CarriedRecurrence(self.model.recur)

    # How it is kept.

    def save(self) -> str:
        """Every order as JSON, without the model and without what was told of symbols before."""
        sessions = [session.state() for session in self.sessions.values()]
        return json.dumps({"version": VERSION, "model": identity(self.model), "sessions": sessions})

    @classmethod
    def restore(cls, state: str, model: LEM, history: Mapping[str, Iterable[ClosedBar]] | None = None) -> "SessionBook":
        """A book as it was saved, in this process or in another.

        Args:
            state: From :meth:`save`.
            model: The model it was saved with.
            history: The newest closed bars of each symbol, for orders that join later.

        Raises:
            SessionError: The state is none, or of another version or model.
        """
        book = cls(model)
        try:
            kept: dict[str, Any] = json.loads(state)
            version, made_with, sessions = kept["version"], kept["model"], kept["sessions"]
        except (ValueError, KeyError, TypeError) as error:
            raise SessionError(f"this is no state of a book: {error}") from error
        if version != VERSION:
            raise SessionError(f"the state is of version {version}, and this program reads version {VERSION}")
        if made_with != (ours := identity(model)):
            raise SessionError(f"the state was saved with model {made_with}, and this is model {ours}; load that one")
        for each in sessions:
            book._keep(ExecutionSession.of_state(each, model))
        for symbol, bars in (history or {}).items():
            book._history[symbol] = deque(bars, maxlen=model.config.lookback)
        return book
