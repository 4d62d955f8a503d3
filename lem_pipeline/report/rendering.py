"""What every document has in common: a page that people keep loads nothing; a terminal shows the same tables."""

from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from rich import box
from rich.table import Table
from rich.text import Text

SIMULATED_BANNER = "SIMULATED DATA"
SIMULATED_NOTE = "Prices were drawn by a random generator: no figure here says anything about a real market."


def render(template: str, *, simulated: bool, **values: Any) -> str:
    """A template of the folder ``templates`` as a page, under a banner where any price behind it was simulated."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    banner = SIMULATED_BANNER if simulated else ""
    return environment.get_template(template).render(banner=banner, banner_note=SIMULATED_NOTE, **values)


def screen_banner(simulated: bool) -> list[Text]:
    """The banner of a terminal, where any price behind the figures was simulated."""
    return [Text(f"{SIMULATED_BANNER}  {SIMULATED_NOTE}", "bold yellow")] if simulated else []


def screen_table(title: str, frame: pd.DataFrame) -> Table:
    """A table for a terminal."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in frame.columns:
        table.add_column(str(column), overflow="fold")
    for row in frame.itertuples(index=False, name=None):
        table.add_row(*map(str, row))
    return table
