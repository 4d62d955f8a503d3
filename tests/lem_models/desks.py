"""A desk that trades an execution session on random bars, as they come or as a test has it."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from builders import FEATURES, HORIZON, LOOKBACK, rng

from lem_models.advice import Advice
from lem_models.events import ClosedBar, Fill, Outlook, ParentOrder
from lem_models.lem import LEM
from lem_models.orders import SCENARIOS, OrderBatch, Scenario
from lem_models.session import ExecutionSession
from lem_models.windows import MarketPanel

FIRST = LOOKBACK + 2  # row of the order's first bar
ROWS = FIRST + 2 * HORIZON
NUMBER = 480_000  # of the bar in row 0


def random_panel(seed: int = 0, volatility: float = 0.01) -> MarketPanel:
    draw = rng(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(ROWS, *shape, generator=draw, dtype=torch.float64)

    close = 87.3 * torch.exp((volatility * normal()).cumsum(0))
    return MarketPanel(
        features=normal(len(FEATURES)).float(),
        price=close * torch.exp(0.5 * volatility * normal()),
        close=close,
        volume=1000 * torch.exp(normal()),
        volatility=volatility * torch.exp(0.2 * normal()),
        expected_volume=1000 * torch.exp(0.5 * normal()),
    )


def one_shot(panel: MarketPanel) -> OrderBatch:
    """The window of the order that a desk begins in row ``FIRST``."""
    return panel.orders(torch.tensor([FIRST]), LOOKBACK, HORIZON)


def outlook(panel: MarketPanel, row: int) -> Outlook:
    features = dict(zip(FEATURES, panel.features[row].tolist(), strict=True))
    return Outlook(features, float(panel.volatility[row]), tuple(panel.expected_volume[row : row + HORIZON].tolist()))


def bar(panel: MarketPanel, row: int, **other: float) -> ClosedBar:
    facts = [float(column[row]) for column in (panel.price, panel.close, panel.volume)]
    return replace(ClosedBar(NUMBER + row, *facts, outlook(panel, row + 1)), **other)


def parent(scenario: Scenario = SCENARIOS[0], minimum_duration: int = 6, size: float = 37.7, **other) -> ParentOrder:
    return ParentOrder("P1", "XYZ", scenario.side, scenario.benchmark, scenario.target, size, minimum_duration, **other)


def opened(order: ParentOrder, model: LEM, panel: MarketPanel) -> ExecutionSession:
    """A session that has been told every bar before the order's first."""
    session = ExecutionSession(order, model)
    for row in range(FIRST):
        assert session.on_bar(bar(panel, row)) == []
    return session


def fill_of(advice: Advice, price: float, name: str = "", part: float = 1.0) -> Fill:
    """A fill of a part of what is left of a child order."""
    amount = part * advice.to_trade
    quantity = amount if advice.quantity is not None else amount / price
    return Fill(f"{advice.bar_number}{name}", quantity, price)


@dataclass
class Bars:
    """What becomes of one bar."""

    session: ExecutionSession
    panel: MarketPanel
    row: int
    advice: Advice

    @property
    def price(self) -> float:
        return float(self.panel.price[self.row])


def as_planned(bars: Bars) -> None:
    if bars.advice.to_trade:
        assert bars.session.on_fill(fill_of(bars.advice, bars.price)) == []
    assert bars.session.on_bar(bar(bars.panel, bars.row)) == []


def trade(
    session: ExecutionSession, panel: MarketPanel, happens: Callable[[Bars], None] = as_planned, bars: int = HORIZON
) -> list[Advice]:
    """Advice for so many bars, each followed by what happens in it."""
    given = []
    for row in range(FIRST, FIRST + bars):
        given.append(session.advise())
        happens(Bars(session, panel, row, given[-1]))
    return given
