"""Writes what the documentation shows of the code itself: ``make docs``.

``docs/configuration.md`` is the reference of all settings. Between two marks, ``README.md`` holds the asset graph and
``docs/operations.md`` jobs and checks.
"""

import sys
from pathlib import Path

from lem_pipeline.definitions import defs
from lem_pipeline.reference.definitions import check_table, job_table, mermaid
from lem_pipeline.reference.settings import reference


def write(folder: Path) -> None:
    """Bring the pages below a folder up to date."""
    definitions = defs()
    (folder / "docs/configuration.md").write_text(reference())
    _between_marks(folder / "README.md", "asset graph", f"```mermaid\n{mermaid(definitions)}\n```")
    _between_marks(folder / "docs/operations.md", "jobs", job_table(definitions))
    _between_marks(folder / "docs/operations.md", "checks", check_table(definitions))


def _between_marks(page: Path, name: str, text: str) -> None:
    begin, end = f"<!-- {name}, by make docs -->\n", f"<!-- end of the {name} -->\n"
    before, _, rest = page.read_text().partition(begin)
    after = rest.partition(end)[2]
    page.write_text(f"{before}{begin}{text}\n{end}{after}")


if __name__ == "__main__":
    write(Path(*sys.argv[1:]))
