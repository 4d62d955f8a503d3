"""Fits one model of the settings in the processes that ``torchrun`` started, on one machine or on many.

It registers nothing: job ``train`` finds the training finished, lets the model through its gates and registers it. All
machines see the same home and the same warehouse.
"""

import argparse
import os
from dataclasses import replace

from lem_pipeline.checkpoints import checkpoints_of
from lem_pipeline.errors import LemError
from lem_pipeline.panel import read_panel
from lem_pipeline.settings import settings
from lem_pipeline.stores import warehouse_of
from lem_pipeline.tracking import fingerprint


def main() -> None:
    """Fit a model, together with the other processes."""
    parser = argparse.ArgumentParser(prog="lem_pipeline.fit_on_nodes", description=__doc__)
    parser.add_argument("model", help="its name in the settings, such as lem-crypto")
    parser.add_argument("--profile", default="demo")
    asked = parser.parse_args()
    os.environ["LEM_PROFILE"] = asked.profile
    from lem_models.ranks import rank
    from lem_models.training import fit

    def report(epoch: int, metrics: dict[str, float]) -> None:
        print(f"epoch {epoch + 1}, validation loss {metrics['validation_loss']:+.4f}", flush=True)

    try:
        chosen = settings()
        shape = chosen.shape_of(asked.model)
        data = read_panel(warehouse_of(chosen), chosen.registered[asked.model])
        config = replace(shape, features=data.features)
        mark = fingerprint(data.snapshot, config, chosen.training)
        folder = checkpoints_of(chosen.home, asked.model, mark)
        fit(data.panel, data.rows("train"), data.rows("validation"), config, chosen.training, folder, report)
    except LemError as error:
        raise SystemExit(f"FAILED  {error}") from error
    if rank() == 0:
        print(f"{asked.model} is trained and waits in {folder} for job train, which judges and registers it")


if __name__ == "__main__":
    main()
