"""Orders traded together are advised as if each were alone, and none suffers from what another is told."""

from dataclasses import replace

import pytest
import torch
from builders import HORIZON, LOOKBACK, tiny_lem
from desks import FIRST, bar, fill_of, random_panel

from lem_models.events import Fill, ParentOrder, SessionError
from lem_models.lem import LEM
from lem_models.orders import SCENARIOS
from lem_models.session import ExecutionSession
from lem_models.session_book import RefusedOrdersError, SessionBook
from lem_models.windows import MarketPanel

SYMBOLS = {"A": 0, "B": 1}  # and the seed of each market
CLOSE = 1e-6  # products over other shapes differ in their last bits, and so may the lots of 2⁻²³ that follow


@pytest.fixture(scope="module")
def model() -> LEM:
    return tiny_lem(seed=3, cap=0.15, floor=0.02)


@pytest.fixture(scope="module")
def panels() -> dict[str, MarketPanel]:
    return {symbol: random_panel(seed) for symbol, seed in SYMBOLS.items()}


def orders() -> list[tuple[int, ParentOrder]]:
    """Orders of every scenario, each with the bar it joins at, counted from the first that any may."""
    kinds = [(number, scenario, symbol) for number, scenario in enumerate(SCENARIOS) for symbol in SYMBOLS]
    return [
        (
            0 if number < 4 else number - 3,
            ParentOrder(
                f"{symbol}{number}",
                symbol,
                scenario.side,
                scenario.benchmark,
                scenario.target,
                120.0 * (1 + number),
                1 + number,
                lot_size=1.0 if number == 2 else None,
                participation_cap=0.1 if number == 3 else None,
            ),
        )
        for number, scenario, symbol in kinds
    ]


class Desk:
    """Trades a book, and every order of it once more in a session of its own, unless told not to."""

    def __init__(self, model: LEM, panels: dict[str, MarketPanel], part: float = 1.0, twice: bool = True) -> None:
        self.book, self.model, self.panels, self.part, self.twice = SessionBook(model), model, panels, part, twice
        self.alone: dict[str, ExecutionSession] = {}
        self.row = FIRST
        for row in range(FIRST):
            self.book.on_bars({symbol: bar(panel, row) for symbol, panel in panels.items()})

    def open(self, order: ParentOrder) -> None:
        self.book.open(order)
        if not self.twice:
            return
        self.alone[order.order_id] = session = ExecutionSession(order, self.model)
        for row in range(self.row):
            session.on_bar(bar(self.panels[order.symbol], row))

    def step(self) -> dict[str, tuple]:
        """Ask, fill a part and close the bar; both advices of each order."""
        given = self.book.advise()
        both = {name: (advice, self.alone[name].advise() if self.alone else advice) for name, advice in given.items()}
        for name, (advice, _) in both.items():
            if advice.to_trade * self.part > 1e-9:
                price = float(self.panels[self.book.sessions[name].order.symbol].price[self.row])
                fill = fill_of(advice, price, part=self.part)
                self.book.on_fill(name, fill)
                if self.twice:
                    self.alone[name].on_fill(fill)
        bars = {symbol: bar(panel, self.row) for symbol, panel in self.panels.items()}
        self.book.on_bars(bars)
        for session in self.alone.values():
            session.on_bar(bars[session.order.symbol])
        self.row += 1
        return both


def traded(desk: Desk, steps: int = HORIZON + 2) -> list[dict[str, tuple]]:
    given = []
    for step in range(steps):
        for joins, order in orders():
            if joins == step:
                desk.open(order)
        given.append(desk.step())
    return given


@pytest.fixture(scope="module")
def desk(model, panels) -> Desk:
    """Of which each child order fills to four fifths."""
    desk = Desk(model, panels, part=0.8)
    desk.given = traded(desk)
    return desk


def test_orders_that_begin_at_different_bars_are_advised_as_sessions_of_their_own(desk):
    compared = 0
    for step in desk.given:
        for ours, alone in step.values():
            assert ours.fraction == pytest.approx(alone.fraction, abs=CLOSE)
            assert ours.finish_probability == pytest.approx(alone.finish_probability, abs=CLOSE)
            assert (ours.bar, ours.bound) == (alone.bar, alone.bound)
            for name in ("remaining", "cap", "gap_sigma", "fill_gap_sigma", "expected_room", "earliest_finish"):
                assert (getattr(ours, name) is None) == (getattr(alone, name) is None), name
                assert (getattr(ours, name) or 0) == pytest.approx(getattr(alone, name) or 0, rel=1e-6, abs=1e-4), name
            compared += alone.fraction > 0
    assert compared > 100


def test_money_adds_up_and_caps_hold_in_every_order_of_a_book(desk, model):
    for name, session in desk.book.sessions.items():
        order, filled = session.order, sum(f.amount(session.order.target) for f in session.record.fills.values())
        assert float(filled) + float(session.record.remaining()) == pytest.approx(order.size, rel=1e-12)
        assert float(filled) <= order.size * (1 + 1e-12)
        for advice in session.advised.values():
            assert advice.amount <= advice.cap * (1 + 1e-12), name
            assert order.lot_size is None or advice.amount % order.lot_size == 0
    filled = [session.outcome().filled_fraction for session in desk.book.sessions.values()]
    assert min(filled) > 0.5  # or nothing was traded


def test_filled_as_planned_every_order_of_a_book_is_complete(model, panels):
    desk = Desk(model, panels, twice=False)
    for _, order in orders():
        desk.open(order)
    for _ in range(HORIZON):
        desk.step()
    assert [s.outcome().filled_fraction for s in desk.book.sessions.values()] == pytest.approx([1] * len(orders()))
    assert {a.reason for a in desk.book.advise().values()} == {"The order is complete."}


def test_advice_of_a_book_is_blind_to_later_bars(model, panels):
    others = {symbol: random_panel(seed + 10) for symbol, seed in SYMBOLS.items()}
    for step in (0, 5):
        row, mixed = FIRST + step, {symbol: random_panel(seed) for symbol, seed in SYMBOLS.items()}
        for symbol, panel in mixed.items():
            for name in ("price", "close", "volume"):
                getattr(panel, name)[row:] = getattr(others[symbol], name)[row:]
            panel.features[row + 1 :] = others[symbol].features[row + 1 :]
            panel.volatility[row + 1 :] = others[symbol].volatility[row + 1 :]
            panel.expected_volume[row + HORIZON :] = 1e9
        given = (traded(Desk(model, each, twice=False), step + 1) for each in (panels, mixed))
        for before, after in zip(*given, strict=True):
            assert {name: pair[0].fraction for name, pair in before.items()} == {
                name: pair[0].fraction for name, pair in after.items()
            }


def test_a_bar_that_one_order_refuses_names_it_and_all_others_take_theirs(model, panels):
    desk = Desk(model, panels)
    for _, order in orders():
        desk.open(order)
    desk.step()
    spoilt = desk.book.sessions["B5"]
    spoilt.on_bar(bar(panels["B"], desk.row, close=55.0))  # told by another feed, and wrong
    bars = {symbol: bar(panel, desk.row) for symbol, panel in panels.items()}
    with pytest.raises(RefusedOrdersError, match=r"^order B5: bar \d+ was told before with other values") as refused:
        desk.book.on_bars(bars)
    assert set(refused.value.reasons) == {"B5"}
    for session in desk.alone.values():
        session.on_bar(bars[session.order.symbol])
    desk.row += 1
    for name, (ours, alone) in desk.step().items():
        if name != "B5":
            assert ours.fraction == pytest.approx(alone.fraction, abs=CLOSE), name


def test_orders_on_which_the_network_overflows_are_named(panels):
    desk = Desk(tiny_lem(seed=3), panels, twice=False)
    (_, first), (_, second), *_ = orders()
    desk.open(first)
    desk.step()
    desk.open(second)
    with torch.no_grad():
        desk.model.allocate.order_code[:, :, 0] = float("nan")  # of orders in their first bar
    with pytest.raises(RefusedOrdersError, match=f"^order {second.order_id}: the network overflows") as refused:
        desk.book.advise()
    assert refused.value.advice[first.order_id].bar == 2


def test_an_order_leaves_and_its_name_is_free_again(model, panels):
    desk = Desk(model, panels)
    (_, first), (_, second), *_ = orders()
    desk.open(first)
    desk.open(second)
    desk.step()
    with pytest.raises(SessionError, match=f"order {first.order_id} is under way"):
        desk.book.open(first)
    assert desk.book.close(first.order_id).outcome().filled_fraction > 0
    with pytest.raises(SessionError, match=f"there is no order {first.order_id} under way"):
        desk.book.on_fill(first.order_id, Fill("1", 1.0, 1.0))
    (ours, alone) = desk.step()[second.order_id]
    assert ours.fraction == pytest.approx(alone.fraction, abs=CLOSE)
    desk.book.open(first)
    assert desk.book.advise()[first.order_id].bar == 1


def test_an_order_without_history_is_named_and_the_others_are_advised_when_it_leaves(model, panels):
    desk = Desk(model, panels)
    (_, first), *_ = orders()
    desk.open(first)
    desk.book.open(replace(first, order_id="new", symbol="C"))
    with pytest.raises(RefusedOrdersError, match=f"^order new: the model reads {LOOKBACK} bars in a row") as refused:
        desk.book.advise()
    assert list(refused.value.advice) == [first.order_id]
    desk.book.close("new")
    assert list(desk.book.advise()) == [first.order_id]


def test_a_book_is_restored_as_it_was_saved_and_trades_on(model, panels):
    desk = Desk(model, panels, part=0.8, twice=False)
    traded(desk, 5)
    restored = SessionBook.restore(desk.book.save(), model, {"A": [bar(panels["A"], row) for row in range(desk.row)]})
    ours, theirs = desk.book.advise(), restored.advise()
    assert {n: a.fraction for n, a in theirs.items()} == pytest.approx(
        {n: a.fraction for n, a in ours.items()}, abs=CLOSE
    )
    restored.open(replace(orders()[0][1], order_id="later"))
    assert restored.advise()["later"].bar == 1


@pytest.mark.parametrize(
    ("state", "complaint"),
    [
        ("{}", "this is no state of a book"),
        ('{"version": 9, "model": "", "sessions": []}', "the state is of version 9"),
        ('{"version": 1, "model": "other", "sessions": []}', "was saved with model other"),
    ],
)
def test_what_is_no_state_of_this_model_is_refused(model, state, complaint):
    with pytest.raises(SessionError, match=complaint):
        SessionBook.restore(state, model)
