"""Each gate refuses a leak that no other gate sees, and lets honest models pass, bad ones included."""

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pytest
import torch
from builders import tiny_lem
from torch import Tensor
from warehouses import PARAMETERS, build, hourly

from lem_models.baselines import Strategy
from lem_models.baselines.optimal_stopping import OptimalStopping
from lem_models.baselines.oracle import Oracle
from lem_models.baselines.twap import Twap
from lem_models.config import LEMConfig
from lem_models.lem import LEM
from lem_models.orders import LOT, Limits, MarketPath, OrderBatch, OrderGrid
from lem_pipeline.errors import LookAheadError
from lem_pipeline.gates import GATES, evidence_of, pass_gates
from lem_pipeline.panel import OrderPanel, read_panel

LOOKBACK, HORIZON = PARAMETERS["lookback"], PARAMETERS["horizon"]
LIMITS, GRID = Limits(HORIZON), OrderGrid(HORIZON)
FEW = 64  # windows that the bitwise gate looks at


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> OrderPanel:
    warehouse = build(tmp_path_factory.mktemp("gates"), hourly(3_600, ("BTC/USDT", "ETH/USDT")))
    return read_panel(warehouse, ["crypto"])


@dataclass(frozen=True)
class OfThreeFeatures:
    """A tiny LEM of lively random weights: honest, and bad."""

    name: str = "random weights"

    def schedule(self, orders: OrderBatch) -> Tensor:
        model = tiny_lem(horizon=HORIZON, lookback=LOOKBACK)
        return model.schedule(replace(orders, features=orders.features[..., :3]))


class Untrained:
    """A LEM before its first step, which all but follows the stopping plan."""

    name = "untrained"

    def schedule(self, orders: OrderBatch) -> Tensor:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            names = tuple(str(n) for n in range(orders.features.shape[-1]))
            model = LEM(LEMConfig(names, lookback=LOOKBACK, horizon=HORIZON, width=8, head_width=8, memory_width=4))
        return model.eval().schedule(orders)


HONEST = [Twap(LIMITS), OptimalStopping(LIMITS), OfThreeFeatures(), Untrained()]


@pytest.mark.parametrize("strategy", HONEST, ids=lambda s: s.name)
def test_who_knows_the_past_alone_passes_every_gate_with_evidence(data, strategy):
    evidence = pass_gates(strategy, data, LOOKBACK, LIMITS)
    assert list(evidence) == list(GATES)
    assert evidence["splits_share_no_bar"].endswith("none in two splits")
    assert "not a bit moved" in evidence["decisions_are_blind_to_the_future"]
    assert all("walks" in evidence[gate] and "95 % interval" in evidence[gate] for gate in list(GATES)[2:5])
    assert "validation days" in evidence["no_edge_with_features_of_others"]
    assert all(len(found) < 250 for found in evidence.values())


def ahead(market: MarketPath) -> MarketPath:
    """The path as if bar t had already been bar t − 1."""
    shifted = {name: torch.cat([getattr(market, name)[:, 1:], getattr(market, name)[:, -1:]], 1) for name in LATER}
    return replace(market, arrival=market.close[:, 0], **shifted)


LATER = ("price", "close", "volume")


@dataclass(frozen=True)
class SeesItsOwnBar:
    """A strategy that reads its own bar, through the rows of features or through its state."""

    strategy: Strategy
    through: str
    name: str = "sees its own bar"

    def schedule(self, orders: OrderBatch) -> Tensor:
        features, market = orders.features, orders.market
        if self.through == "features":
            return self.strategy.schedule(replace(orders, features=features.roll(-1, dims=1)))
        return self.strategy.schedule(replace(orders, market=ahead(market)))


@dataclass(frozen=True)
class WhereNobodyLooks:
    """A leak that shows on many orders alone."""

    leak: Strategy
    name: str = "hides"

    def schedule(self, orders: OrderBatch) -> Tensor:
        return (Twap(LIMITS) if len(orders) <= FEW else self.leak).schedule(orders)


@pytest.mark.parametrize(
    ("leak", "first"),
    [
        (Oracle(LIMITS), 1),
        (SeesItsOwnBar(OfThreeFeatures(), "features"), 1),
        # Before any bar, the state is the same for all: nothing has been filled, and no benchmark runs.
        (SeesItsOwnBar(OfThreeFeatures(), "state"), 2),
        (SeesItsOwnBar(OptimalStopping(LIMITS), "state"), 2),
    ],
    ids=["oracle", "features", "state of the heads", "state of a baseline"],
)
def test_who_sees_the_bar_it_trades_in_is_refused_with_the_first_bar_that_tells(data, leak, first):
    told = f"its child order of bar {first} moves when only that bar and later ones change"
    with pytest.raises(LookAheadError, match=told):
        pass_gates(leak, data, LOOKBACK, LIMITS)


class TiltsTowardsCheapBars:
    """Now and then a little more in bars that turn out well."""

    name = "tilts"

    def schedule(self, orders: OrderBatch) -> Tensor:
        surprise = (orders.market.price / orders.market.last_close - 1) / orders.market.volatility
        tilt = 0.05 * (surprise - surprise.mean(1, keepdim=True)) / HORIZON
        return Twap(LIMITS).schedule(orders) - tilt[:, None, None] * GRID.side


@pytest.mark.parametrize("leak", [TiltsTowardsCheapBars(), SeesItsOwnBar(OptimalStopping(LIMITS), "state")])
def test_a_small_gain_that_no_forecast_can_make_is_refused(data, leak):
    with pytest.raises(LookAheadError, match="gains over the start of the bars it trades in on driftless walks"):
        pass_gates(WhereNobodyLooks(leak), data, LOOKBACK, LIMITS)


class KnowsTheBarAfterItsOwn:
    """Trades in bar 1, or in bar 3 where bar 2 is going to move its way: no fill beats the start of its bar."""

    name = "waits"

    def schedule(self, orders: OrderBatch) -> Tensor:
        market = orders.market
        falls = (market.close[:, 1] < market.close[:, 0])[:, None, None]
        waits = (falls == (GRID.side[..., 0] > 0)).float().expand(-1, *GRID.shape)
        nothing = torch.zeros_like(waits)
        return torch.stack([1 - waits, nothing, waits, nothing], dim=-1)


def test_a_gain_between_the_bars_it_trades_in_is_refused(data):
    with pytest.raises(LookAheadError, match="gains over arrival on driftless walks"):
        pass_gates(WhereNobodyLooks(KnowsTheBarAfterItsOwn()), data, LOOKBACK, LIMITS)


class ChoosesItsBenchmark:
    """Trades in bar 1, and keeps a lot for bar 3 where bar 2 is going to move the benchmark its way.

    No lot of it is filled any better than by someone who knows nothing.
    """

    name = "chooses"

    def schedule(self, orders: OrderBatch) -> Tensor:
        market = orders.market
        rises = (market.close[:, 1] > market.close[:, 0])[:, None, None]
        kept = LOT * (rises == (GRID.side[..., 0] > 0)).float().expand(-1, *GRID.shape)
        nothing = torch.zeros_like(kept)
        return torch.stack([1 - kept, nothing, kept, nothing], dim=-1)


def test_a_benchmark_chosen_by_what_is_still_to_come_is_refused(data):
    with pytest.raises(LookAheadError, match="gains over no-forecast stopping on driftless walks"):
        pass_gates(WhereNobodyLooks(ChoosesItsBenchmark()), data, LOOKBACK, LIMITS)


class RemembersTheseBars:
    """Knows each window of the panel by what is known of it beforehand, and what its prices were going to be."""

    name = "remembers"

    def __init__(self, data: OrderPanel) -> None:
        rows = torch.cat([data.rows("validation"), data.rows("test")])
        orders = data.panel.orders(rows, LOOKBACK, HORIZON)
        self.known = {mark: number for number, mark in enumerate(self.marks(orders))}
        self.best = Oracle(LIMITS).schedule(orders)

    @staticmethod
    def marks(orders: OrderBatch) -> list[tuple[float, float]]:
        return list(
            zip(orders.market.expected_volume[:, 0].tolist(), orders.market.volatility[:, 0].tolist(), strict=True)
        )

    def schedule(self, orders: OrderBatch) -> Tensor:
        return self.best[torch.tensor([self.known[mark] for mark in self.marks(orders)])]


def test_an_edge_that_needs_no_features_is_refused(data):
    with pytest.raises(
        LookAheadError, match="with the features of other orders the model still gains over no-forecast"
    ):
        pass_gates(RemembersTheseBars(data), data, LOOKBACK, LIMITS)


def with_split(data: OrderPanel, split: np.ndarray) -> OrderPanel:
    keys = data.keys.set_column(data.keys.column_names.index("split"), "split", pa.array(split, pa.string()))
    return replace(data, keys=keys)


@pytest.mark.parametrize("shared", [1, LOOKBACK + HORIZON - 2])
def test_splits_that_share_a_bar_are_refused_with_the_bar(data, shared):
    split = data.keys["split"].to_numpy(zero_copy_only=False).copy()
    first, span = int(data.rows("test")[0]), LOOKBACK + HORIZON - 1
    split[first - 2 * span : first] = None
    split[first - span] = "train"
    pass_gates(Twap(LIMITS), with_split(data, split), LOOKBACK, LIMITS)
    split[first - span + shared] = "train"
    with pytest.raises(LookAheadError, match=f"of BTC/USDT share bar .* of its clock, and {shared - 1} more"):
        pass_gates(Twap(LIMITS), with_split(data, split), LOOKBACK, LIMITS)


def test_a_few_days_are_said_to_be_too_few(data):
    split = data.keys["split"].to_numpy(zero_copy_only=False).copy()
    rows = data.rows("validation").numpy()
    split[rows[40:]] = None
    evidence = pass_gates(Twap(LIMITS), with_split(data, split), LOOKBACK, LIMITS)
    assert evidence["no_edge_with_features_of_others"].endswith("validation days are too few to tell")


def test_a_version_that_passed_other_gates_has_no_evidence():
    tags = {f"gate.{gate}": "found" for gate in GATES} | {"simulated": "true"}
    assert evidence_of(tags) == dict.fromkeys(GATES, "found")
    assert evidence_of({name: found for name, found in tags.items() if "splits" not in name}) is None
