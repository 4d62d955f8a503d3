"""Makes some assets of the main job on the engine of the settings, as `lem run` makes all of them.

Arguments are the first month, the last one, and the assets as ``schema.table``.
"""

import sys

import dagster as dg

from lem_pipeline.main_job import END_TAG, START_TAG, execute, failures, main_job
from lem_pipeline.sql_assets import asset_key

if __name__ == "__main__":
    first, last, *tables = sys.argv[1:]
    with dg.DagsterInstance.get() as instance:
        wanted = [asset_key(table) for table in tables]
        result = execute(instance, main_job, {START_TAG: first, END_TAG: last}, asset_selection=wanted)
    sys.exit(None if result.success else next(failures(result.all_events)))
