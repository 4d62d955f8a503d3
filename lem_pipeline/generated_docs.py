"""Writes what the documentation shows of the code itself: ``make docs``.

``docs/configuration.md`` is the reference of all settings; between its two marks, ``README.md`` holds the asset graph.
"""

import sys
from pathlib import Path

from lem_pipeline.asset_graph import mermaid
from lem_pipeline.definitions import defs
from lem_pipeline.settings_reference import reference

BEGIN, END = "<!-- asset graph, by make docs -->\n", "<!-- end of the asset graph -->\n"


def write(folder: Path) -> None:
    """Bring the pages below a folder up to date."""
    (folder / "docs" / "configuration.md").write_text(reference())
    readme = folder / "README.md"
    before, _, rest = readme.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    readme.write_text(f"{before}{BEGIN}```mermaid\n{mermaid(defs())}\n```\n{END}{after}")


if __name__ == "__main__":
    write(Path(*sys.argv[1:]))
