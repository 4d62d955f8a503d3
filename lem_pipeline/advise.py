"""Orders, bars and fills in, advice out, line by line: what ``lem advise`` does."""

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lem_models.advice import Advice
from lem_models.events import Fill, ParentOrder, SessionError
from lem_models.session import ExecutionSession, identity
from lem_pipeline.advise_events import (
    AdviceEvent,
    AnyEvent,
    BarEvent,
    FillEvent,
    MissedEvent,
    OrderEvent,
    event_of,
    utc,
)
from lem_pipeline.bar_feed import BarFeed, KnownBar
from lem_pipeline.child_orders import ChildOrder
from lem_pipeline.errors import ConfigurationError, RefusedEventError

if TYPE_CHECKING:
    from lem_models.lem import LEM

VERSION = 1
"""Of state files."""

Answer = dict[str, Any]


@dataclass
class Desk:
    """Orders under way on one feed of bars.

    Attributes:
        model: Decides.
        feed: Bars, and what is known before each.
        state: Where everything told is kept after every line; None for nowhere.
    """

    model: "LEM"
    feed: BarFeed
    state: Path | None = None
    sessions: dict[str, ExecutionSession] = field(default_factory=dict)
    told: list[Answer] = field(default_factory=list)  # bars of the stream
    hours: dict[str, dict[int, tuple[str, str]]] = field(default_factory=dict)  # when bars of an order trade
    settled: list[str] = field(default_factory=list)  # orders whose outcome has been said
    refused: int = 0
    _bars: dict[str, dict[int, KnownBar]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.state and self.state.exists():
            self._restore(self.state.read_text())

    def answers(self, lines: Iterable[str]) -> Iterator[Answer]:
        """Answer every line; one that is refused gets a sentence, and changes nothing."""
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                answers = self._answer(event_of(line))
            except (RefusedEventError, SessionError, FloatingPointError) as error:
                self.refused += 1
                answers = [{"type": "error", "line": number, "error": str(error)}]
            self._save()  # before it is answered: who has an answer can rely on it
            yield from answers

    def children(self) -> list[ChildOrder]:
        """Every child order so far, in the order of its parents and bars."""
        return [
            ChildOrder(session.order, advice, *(datetime.fromisoformat(each) for each in self.hours[name][number]))
            for name, session in self.sessions.items()
            for number, advice in sorted(session.advised.items())
        ]

    def _answer(self, event: AnyEvent) -> list[Answer]:
        match event:
            case OrderEvent():
                return self._order(event)
            case BarEvent():
                return self._bar(event)
            case MissedEvent():
                return self._missed(event)
            case FillEvent():
                return self._fill(event)
            case AdviceEvent():
                return self._advice(self._session(event.order_id))

    def _order(self, event: OrderEvent) -> list[Answer]:
        order = ParentOrder.from_dict(event.model_dump(exclude={"type"}))
        if known := self.sessions.get(order.order_id):
            if known.order != order:
                raise RefusedEventError(f"order {order.order_id} is under way with other terms; give this one a new id")
            return [_notice(order, "this order is under way; it counts once"), *self._advice(known)]
        bars = self._look(order.symbol)
        if not bars:
            raise RefusedEventError(f"no bar of {order.symbol} has been told; feed its history first")
        session = ExecutionSession(order, self.model)
        last = bars[max(bars) - self.feed.horizon]
        if last.fault:
            raise RefusedEventError(f"the last bar of {order.symbol}, {utc(last.bar_start)}, is {last.fault}")
        for number in range(last.bar_number + 1 - self.feed.lookback, last.bar_number + 1):
            if number in bars and not bars[number].fault:
                session.on_bar(self.feed.closed(bars, number))
        try:
            answers = self._advice(session)
        except SessionError as error:
            raise RefusedEventError(f"the order cannot begin after {utc(last.bar_start)}: {error}") from error
        self.sessions[order.order_id] = session
        return answers

    def _bar(self, event: BarEvent) -> list[Answer]:
        row = event.row()
        if not self.feed.add(row):
            return [_notice(None, f"the bar of {_label(event)} was told before; it counts once")]
        self._bars.clear()  # market averages tell of every symbol
        sessions = self._sessions_of(event.symbol)
        if not sessions:
            self._keep(row)
            return []
        try:
            bars = self._look(event.symbol)
            number = self._number(bars, event.bar_start)
            if fault := bars[number].fault:
                raise RefusedEventError(
                    f"the bar of {_label(event)} is {fault}; send it anew, or say that it was missed"
                )
        except RefusedEventError:
            self.feed.drop(event.symbol, row["bar_start"])
            self._bars.clear()
            raise
        self._keep(row)
        return [answer for session in sessions for answer in self._tell(session, bars, number)]

    def _tell(self, session: ExecutionSession, bars: dict[int, KnownBar], number: int) -> list[Answer]:
        """A session hears of a bar; where it comes late, of what that changes in what was known since."""
        is_late = number < session.record.next_bar
        try:
            notices = session.on_bar(self.feed.closed(bars, number))
        except SessionError as error:
            return [_notice(session.order, str(error))]
        for later in range(number + 2, session.record.next_bar + 1) if is_late else ():
            if later <= session.record.last_bar and (outlook := self.feed.outlook(bars, later)):
                session.revise(later, outlook)
        return [*(_notice(session.order, each) for each in notices), *self._advice(session)]

    def _missed(self, event: MissedEvent) -> list[Answer]:
        sessions = self._sessions_of(event.symbol)
        if not sessions:
            raise RefusedEventError(f"no order of {event.symbol} is under way, so that none of its bars can be missed")
        number = self._number(self._look(event.symbol), event.bar_start)
        answers = []
        for session in sessions:
            answers += [_notice(session.order, each) for each in session.on_missed_bar(number)]
            answers += self._advice(session)
        return answers

    def _fill(self, event: FillEvent) -> list[Answer]:
        session = self._session(event.order_id)
        number = None
        if event.bar_start is not None:
            number = self._number(self._look(session.order.symbol), event.bar_start)
        notices = session.on_fill(Fill(event.fill_id, event.quantity, event.price, number))
        answers = [_notice(session.order, each) for each in notices]
        is_earlier = number is not None and number < session.record.next_bar
        if is_earlier or not session.record.remaining_lots():
            answers += self._advice(session)
        return answers

    def _advice(self, session: ExecutionSession) -> list[Answer]:
        advice = session.advise()
        name = session.order.order_id
        answers = [{"type": "advice", **advice.to_dict(), **self._hours(session, advice)}]
        if (outcome := session.outcome()).is_final and name not in self.settled:
            self.settled.append(name)
            answers.append({"type": "outcome", "order_id": name, **outcome.to_dict()})
        return answers

    def _hours(self, session: ExecutionSession, advice: Advice) -> Answer:
        """When the bar of an advice trades."""
        kept = self.hours.setdefault(session.order.order_id, {})
        bar = self._look(session.order.symbol).get(advice.bar_number)
        if bar and advice.bar_number <= session.record.last_bar:
            kept[advice.bar_number] = (utc(bar.opens_at), utc(bar.closes_at))
        opens_at, closes_at = kept.get(advice.bar_number, (None, None))
        return {"symbol": session.order.symbol, "opens_at": opens_at, "closes_at": closes_at}

    def _look(self, symbol: str) -> dict[int, KnownBar]:
        if symbol not in self._bars:
            self._bars[symbol] = self.feed.look(symbol)
        return self._bars[symbol]

    def _number(self, bars: dict[int, KnownBar], bar_start: datetime) -> int:
        found = next((number for number, bar in bars.items() if bar.bar_start == bar_start), None)
        if found is None:
            raise RefusedEventError(f"{utc(bar_start)} is the start of no bar of the last ones, or of those to come")
        return found

    def _sessions_of(self, symbol: str) -> list[ExecutionSession]:
        """Orders of a symbol that bars still matter to."""
        unsettled = [each for name, each in self.sessions.items() if name not in self.settled]
        return [session for session in unsettled if session.order.symbol == symbol]

    def _session(self, order_id: str) -> ExecutionSession:
        if order_id not in self.sessions:
            known = ", ".join(self.sessions) or "none"
            raise RefusedEventError(f"order {order_id} is not under way; {known} is")
        return self.sessions[order_id]

    def _keep(self, row: Answer) -> None:
        self.told.append({name: utc(value) if name == "bar_start" else value for name, value in row.items()})

    # How it is kept.

    def _save(self) -> None:
        if not self.state:
            return
        kept = {
            "version": VERSION,
            "model": identity(self.model),
            "sessions": [json.loads(session.save()) for session in self.sessions.values()],
            "bars": self.told,
            "hours": self.hours,
            "settled": self.settled,
        }
        self.state.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.state.with_name(f"{self.state.name}.new")
        fresh.write_text(json.dumps(kept))
        os.replace(fresh, self.state)

    def _restore(self, text: str) -> None:
        try:
            kept = json.loads(text)
            if kept["version"] != VERSION:
                raise ConfigurationError(f"{self.state} is of version {kept['version']}; this program reads {VERSION}")
            for row in kept["bars"]:
                self.feed.add(row | {"bar_start": datetime.fromisoformat(row["bar_start"]).astimezone(UTC)})
            self.told = kept["bars"]
            restored = [ExecutionSession.restore(json.dumps(each), self.model) for each in kept["sessions"]]
            self.sessions = {session.order.order_id: session for session in restored}
            self.hours = {
                name: {int(number): (times[0], times[1]) for number, times in hours.items()}
                for name, hours in kept["hours"].items()
            }
            self.settled = kept["settled"]
        except (ValueError, KeyError, TypeError) as error:
            reason = str(error) if isinstance(error, SessionError) else f"it is damaged ({error!r})"
            raise ConfigurationError(f"the state {self.state} cannot be used: {reason}") from error
        except RefusedEventError as error:
            raise ConfigurationError(f"the state {self.state} contradicts the history: {error}") from error
        for session in self.sessions.values():
            self._catch_up(session)

    def _catch_up(self, session: ExecutionSession) -> None:
        """Tell a session the bars that history has and it has not heard of: those that closed while nobody listened."""
        bars = self._look(session.order.symbol)
        for number in sorted(bars)[: -self.feed.horizon]:
            if session.record.next_bar <= number <= session.record.last_bar:
                session.on_bar(self.feed.closed(bars, number))


def _notice(order: ParentOrder | None, sentence: str) -> Answer:
    return {"type": "notice", **({"order_id": order.order_id} if order else {}), "notice": sentence}


def _label(event: BarEvent) -> str:
    return f"{event.symbol} at {utc(event.bar_start)}"
