"""Commands that look and change nothing: what there is, and what is amiss."""

from typing import Annotated

import typer

from lem_pipeline.cli.common import Json, Profile, as_json, prepare, refusals

MARKS = {"ok": "[green]✓[/green]", "doubt": "[yellow]?[/yellow]", "wrong": "[red]✗[/red]"}


def status(profile: Profile = "demo", json: Json = False) -> None:
    """Say what a profile holds: bars and how recent, who trades, the latest runs, decisions and report.

    Example: lem status --profile live --json
    """
    prepare(profile)
    import dagster as dg
    from rich.console import Console

    from lem_pipeline import status as profile_status
    from lem_pipeline.settings import settings

    with refusals(), dg.DagsterInstance.get() as instance:
        found = profile_status.status(settings(), instance)
    if json:
        return as_json(found)
    Console(highlight=False).print(profile_status.on_screen(found))


def doctor(
    profile: Profile = "demo",
    offline: Annotated[bool, typer.Option(help="ask no venue")] = False,
    json: Json = False,
) -> None:
    """Look for what may keep a profile from working here, and say how to mend it. Exit code 1: something is wrong.

    Looked at: Python, packages, disk, GPU, who holds the warehouse, schema versions, and whether venues answer.

    Example: lem doctor --profile live
    """
    prepare(profile)
    from rich.console import Console
    from rich.markup import escape

    from lem_pipeline.defs.resources import bar_sources
    from lem_pipeline.doctor import examine
    from lem_pipeline.settings import settings

    console, findings = Console(highlight=False, soft_wrap=True), []
    for finding in examine(settings(), bar_sources(settings()), offline):
        findings.append(finding)
        if not json:
            mend = f"\n    → {escape(finding.mend)}" if finding.mend else ""
            console.print(f"{MARKS[finding.state]} {finding.what}: {escape(finding.found)}{mend}")
    if json:
        as_json(findings)
    if any(finding.state == "wrong" for finding in findings):
        raise typer.Exit(1)
