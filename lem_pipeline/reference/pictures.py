"""Writes the pictures of the documentation from a profile's finished home: ``make pictures``."""

import sys
from pathlib import Path

from lem_pipeline.report.pictures import headline_picture
from lem_pipeline.settings import Settings, settings
from lem_pipeline.stores import warehouse_of


def write(folder: Path, chosen: Settings) -> Path:
    """The report's first figures, of the first model of the profile."""
    warehouse = warehouse_of(chosen)
    improvements, edges = (warehouse.read(f"from reports.{name}").to_pandas() for name in ("improvements", "edges"))
    path = folder / "report.png"
    path.write_bytes(headline_picture(improvements, edges, next(iter(chosen.models)), chosen.simulated))
    return path


if __name__ == "__main__":
    print(write(Path(*sys.argv[1:]), settings()))
