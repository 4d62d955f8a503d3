"""Commands that serve until they are stopped, on this computer alone."""

import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from lem_pipeline.cli.common import Profile, prepare, refusals


def ui(profile: Profile = "demo", port: int = 3000) -> None:
    """Open the Dagster UI of a profile on 127.0.0.1, with its schedules running once switched on.

    Example: lem ui --profile archive
    """
    prepare(profile)
    workspace = Path(__file__).parents[2] / "workspace.yaml"
    arguments = ["dev", "-w", str(workspace), "-h", "127.0.0.1", "-p", str(port)]
    os.execv(sys.executable, [sys.executable, "-m", "dagster", *arguments])


def mlflow(profile: Profile = "demo", port: int = 5000) -> None:
    """Open the MLflow UI of a profile on 127.0.0.1.

    Example: lem mlflow --profile archive
    """
    prepare(profile)
    from lem_pipeline.settings import settings
    from lem_pipeline.stores import tracking_of

    os.environ["MLFLOW_BACKEND_STORE_URI"] = tracking_of(settings()).uri  # not an argument, which others could read
    arguments = ["ui", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", *arguments])


def replay(
    profile: Profile = "demo",
    port: Annotated[int, typer.Option(help="where to listen on 127.0.0.1; 0 chooses a free port")] = 8900,
    faults: Annotated[str, typer.Option(help='faults to switch on, such as "slow-drip status:code=429,first=3"')] = "",
    now: Annotated[datetime | None, typer.Option(help="stop the venues' clock at this time, UTC")] = None,
) -> None:
    """Answer as Binance and Yahoo Finance do, from the bars of a profile, until interrupted.

    Example: lem replay --faults "status:code=503,every=5"
    """
    prepare(profile)
    from lem_pipeline.defs.resources import bar_sources
    from lem_pipeline.replay.serve import serve
    from lem_pipeline.settings import settings
    from lem_pipeline.universe import CRYPTO

    chosen = settings()
    with refusals():
        serve(
            bar_sources(chosen),
            [*(chosen.crypto.instruments if chosen.crypto else []), *CRYPTO],
            chosen.source_bar("crypto"),
            port=port,
            faults=faults,
            now=now and now.replace(tzinfo=UTC),
            say=typer.echo,
        )
