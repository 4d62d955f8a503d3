"""Makes some assets of the main job on the engine of the settings, as `lem run` makes all of them: schema.table ..."""

import sys

import dagster as dg

from lem_pipeline.main_job import END_TAG, START_TAG, execute, failures, months
from lem_pipeline.settings import settings
from lem_pipeline.sql_assets import asset_key

if __name__ == "__main__":
    first, last = months(settings())
    with dg.DagsterInstance.get() as instance:
        wanted = [asset_key(table) for table in sys.argv[1:]]
        result = execute(instance, {START_TAG: first, END_TAG: last}, asset_selection=wanted)
    sys.exit(None if result.success else next(failures(result.all_events)))
