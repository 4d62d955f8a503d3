"""The command line, one module per kind of work."""

import typer

from lem_pipeline.cli import desk, health, runs, servers

EXIT_CODES = (
    "Exit codes: 0 done; 1 it failed or cannot be done, and a sentence says why; 2 the command was written wrongly; "
    "3 refused: a version by a gate or the rule, or a line of a stream."
)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
    help="Learned order execution: from market bars to a registered model and its comparison report.",
    epilog=EXIT_CODES,
)

for command in (
    runs.demo,
    runs.run,
    runs.sweep,
    runs.report,
    desk.compare,
    desk.promote,
    desk.roll_back,
    desk.advise,
    health.status,
    health.doctor,
    servers.ui,
    servers.mlflow,
    servers.replay,
):
    app.command()(command)
