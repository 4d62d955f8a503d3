"""Keeps a lake small: ``python -m lem_pipeline.upkeep 7`` merges small files and forgets what is older than 7 days."""

import sys

from lem_pipeline.errors import ConfigurationError
from lem_pipeline.lake import KEEP_DAYS, Lake
from lem_pipeline.storage import Warehouse


def upkeep(warehouse: Warehouse, keep_days: int = KEEP_DAYS) -> None:
    """Tidy a lake.

    Raises:
        ConfigurationError: It is one file, which needs none.
    """
    if not isinstance(warehouse, Lake):
        raise ConfigurationError("the settings have no section [lake]; a warehouse in one file needs no upkeep")
    warehouse.tidy(keep_days)


if __name__ == "__main__":
    from lem_pipeline.settings import settings
    from lem_pipeline.stores import warehouse_of

    upkeep(warehouse_of(settings()), *map(int, sys.argv[1:]))
