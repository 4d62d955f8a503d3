"""What a report rests on is read from the stores that made it: the warehouse, and the run of each model."""

from collections.abc import Iterator
from types import SimpleNamespace

import mlflow
import pandas as pd
import pytest
from warehouses import build, daily, hourly, read

from lem_pipeline.provenance import bars_table, configuration, windows_table
from lem_pipeline.report.learning import learning_curves
from lem_pipeline.storage import Warehouse
from lem_pipeline.tracking import CHALLENGER, Tracking

LOSSES = [-0.10, -0.30, -0.20, -0.30]  # the second epoch is kept: the fourth is no better


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory) -> Warehouse:
    """Two coins, of which one lacks twelve bars, and two shares, whose bars carry no notional."""
    bars = hourly(600)
    place = bars.groupby("symbol").cumcount()
    shares = daily(320).assign(notional=None)
    gap = (bars["symbol"] == "ETH/USDT") & place.between(400, 411)
    return build(tmp_path_factory.mktemp("provenance"), bars[~gap], shares)


@pytest.fixture(scope="module")
def tracking(tmp_path_factory) -> Iterator[Tracking]:
    """A store with one registered version, whose run was trained for four epochs."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
            patch.setenv(name, "")  # a client sets them, for every process that this one starts
        yield _trained(tmp_path_factory)
        mlflow.set_tracking_uri("")
        mlflow.set_registry_uri("")


def _trained(tmp_path_factory: pytest.TempPathFactory) -> Tracking:
    tracking = Tracking(home=str(tmp_path_factory.mktemp("tracking")))
    with tracking.run("lem", {}) as run:
        mlflow.log_params({"lookback": 48, "risk_aversion": 0.1})
        for epoch, loss in enumerate(LOSSES):
            metrics = {"train_loss": loss - 1, "validation_loss": loss, "improvement_sigma": -loss, "other": 1.0}
            mlflow.log_metrics(metrics, step=epoch)
    client = tracking.client()
    client.create_registered_model("lem-crypto")
    version = client.create_model_version("lem-crypto", f"runs:/{run.info.run_id}/model", run.info.run_id)
    client.set_registered_model_alias("lem-crypto", CHALLENGER, version.version)
    return tracking


def test_bars_are_counted_with_their_gaps_and_their_proxies(warehouse):
    crypto, dow = bars_table(warehouse).to_dict("records")
    assert (crypto["bars"], crypto["symbols"], crypto["missing"]) == ("1,188", 2, "12")
    assert (crypto["first bar"], crypto["last bar"]) == ("2024-01-01", "2024-01-25")
    assert (crypto["priced by the proxy"], dow["priced by the proxy"]) == ("0.00%", "100.00%")
    faults = read(warehouse, "select count(*) as n from quality.gap_ledger where not is_explained")["n"][0]
    assert int(crypto["unexplained"]) + int(dow["unexplained"]) == faults


def test_windows_are_counted_by_split_in_the_order_of_time(warehouse):
    table = windows_table(warehouse)
    counts = read(warehouse, "select split, count(*) as n from windows.order_windows group by all")
    assert list(table["split"]) == ["train", "validation", "test"] * 2
    shown = table["order windows"].str.replace(",", "").astype(int)
    assert shown.groupby(table["split"]).sum().to_dict() == dict(counts.itertuples(index=False))
    for _, rows in table.groupby("asset class"):
        starts = pd.to_datetime(rows["first start"]).tolist()
        assert starts == sorted(starts)
        # To the day: crypto's splits may change within one.
        assert (rows["last start"].iloc[:-1].to_numpy() <= rows["first start"].iloc[1:].to_numpy()).all()


def test_learning_curves_are_those_of_the_run_and_name_the_epoch_that_was_kept(tracking):
    curve = learning_curves(SimpleNamespace(models={"lem-crypto": ["crypto"]}), tracking)
    assert list(curve["epoch"]) == [1, 2, 3, 4]
    assert list(curve["validation_loss"]) == pytest.approx(LOSSES)
    assert list(curve["train_loss"]) == pytest.approx([loss - 1 for loss in LOSSES])
    assert list(curve["improvement_sigma"]) == pytest.approx([-loss for loss in LOSSES])
    assert list(curve["is_kept"]) == [False, True, False, False]
    assert set(curve["model"]) == {"lem-crypto"}


def test_a_configuration_is_what_the_run_was_given(tracking):
    assert configuration(tracking, "lem-crypto") == [("lookback", "48"), ("risk_aversion", "0.1")]
