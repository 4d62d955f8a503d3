"""``python -m lem_pipeline.cli`` is ``lem``."""

from lem_pipeline.cli import app

app()
