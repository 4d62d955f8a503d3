"""What Dagster loads: everything under ``defs/``."""

from pathlib import Path

import dagster as dg

from lem_pipeline.engine import executor
from lem_pipeline.labels import labelled
from lem_pipeline.progress import progress_logger
from lem_pipeline.settings import settings


@dg.definitions
def defs() -> dg.Definitions:
    """All assets, checks, jobs, schedules and resources, run on the engine that the settings choose."""
    loaded = dg.load_from_defs_folder(path_within_project=Path(__file__).parent)
    chosen = settings()
    own = dg.Definitions(
        executor=executor(chosen),
        loggers={"console": dg.colored_console_logger, "progress": progress_logger},
    )
    labels = loaded.permissive_map_resolved_asset_specs(lambda spec: labelled(spec, chosen), selection=None)
    return dg.Definitions.merge(labels, own)
