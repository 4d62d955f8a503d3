"""Pages that people keep: one self-contained HTML file each, which loads nothing."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

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
