import pytest
import torch
from torch import Tensor
from warehouses import PARAMETERS, build, hourly

from lem_models.baselines.optimal_stopping import OptimalStopping
from lem_models.baselines.oracle import Oracle
from lem_models.baselines.twap import Twap
from lem_models.orders import Limits, OrderBatch
from lem_pipeline.errors import LookAheadError
from lem_pipeline.gates import GATES, pass_gates
from lem_pipeline.panel import OrderPanel, read_panel

LOOKBACK, HORIZON = PARAMETERS["lookback"], PARAMETERS["horizon"]
LIMITS = Limits(HORIZON)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> OrderPanel:
    warehouse = build(tmp_path_factory.mktemp("gates"), hourly(2_000, ("BTC/USDT", "ETH/USDT")))
    return read_panel(warehouse, ["crypto"])


@pytest.mark.parametrize("strategy", [Twap(LIMITS), OptimalStopping(LIMITS)], ids=lambda s: s.name)
def test_who_knows_the_past_alone_passes_every_gate_with_evidence(data, strategy):
    evidence = pass_gates(strategy, data, LOOKBACK, HORIZON)
    assert list(evidence) == list(GATES)
    assert "not a bit moved" in evidence["decisions_are_blind_to_the_future"]
    assert all("walks" in evidence[gate] for gate in list(GATES)[1:])


def test_who_looks_ahead_is_refused_with_the_first_bar_that_tells(data):
    with pytest.raises(LookAheadError, match="its child order of bar 1 moves when only that bar and later ones change"):
        pass_gates(Oracle(LIMITS), data, LOOKBACK, HORIZON)


class PeeksWhereNobodyLooks:
    """Causal on few orders; on many, now and then a little more in bars that turn out cheap for a buyer."""

    name = "peeks"

    def schedule(self, orders: OrderBatch) -> Tensor:
        schedule = Twap(LIMITS).schedule(orders)
        if len(orders) <= 64:
            return schedule
        surprise = (orders.market.price / orders.market.last_close - 1) / orders.market.volatility
        tilt = 0.05 * (surprise - surprise.mean(1, keepdim=True)) / HORIZON
        sides = torch.tensor([-1.0] * 4 + [1.0] * 4)[:, None, None]
        return schedule + tilt[:, None, None] * sides


def test_a_small_gain_that_no_forecast_can_make_is_refused(data):
    with pytest.raises(LookAheadError, match="gains over the start of the bars it trades in on driftless walks"):
        pass_gates(PeeksWhereNobodyLooks(), data, LOOKBACK, HORIZON)
