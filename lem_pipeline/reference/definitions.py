"""What the documentation shows of the definitions: the asset graph in Mermaid, jobs and checks as tables."""

from collections import Counter
from collections.abc import Iterator

import dagster as dg


def mermaid(definitions: dg.Definitions) -> str:
    """The groups of all assets from left to right; an arrow that others imply is left out."""
    graph = definitions.resolve_asset_graph()
    groups = {key: str(graph.get(key).group_name) for key in graph.get_all_asset_keys()}
    assets = Counter(groups.values())
    checks = Counter(groups[check.asset_key] for check in graph.asset_check_keys)
    made_of = {
        group: {groups[above] for key, own in groups.items() if own == group for above in graph.get(key).parent_keys}
        - {group}
        for group in assets
    }
    lines = ["flowchart LR", "    sources([sources])", "    sources --> raw"]
    for group in sorted(assets):
        told = [_counted(assets[group], "asset"), *([_counted(checks[group], "check")] if checks[group] else [])]
        lines.append(f'    {group}["<b>{group}</b><br>{"<br>".join(told)}"]')
    return "\n".join([*lines, *(f"    {above} --> {below}" for above, below in sorted(_direct(made_of)))])


def job_table(definitions: dg.Definitions) -> str:
    """Every job, schedule and sensor in Markdown: when it runs, and what it does."""
    repository = definitions.get_repository_def()
    jobs = [job for job in repository.get_all_jobs() if not job.name.startswith("__")]
    rows = [
        *((job.name, "when you launch it", job.description) for job in sorted(jobs, key=lambda job: job.name)),
        *((each.name, f"schedule of `{each.job_name}`", each.description) for each in repository.schedule_defs),
        *((each.name, "sensor", each.description) for each in repository.sensor_defs),
    ]
    told = [f"| `{name}` | {when} | {what} |" for name, when, what in rows]
    return "\n".join(["| job | runs | does |", "|---|---|---|", *told])


def check_table(definitions: dg.Definitions) -> str:
    """Every check in Markdown: what it claims; those that all models share stand there once."""
    graph = definitions.resolve_asset_graph()
    told: dict[str, None] = {}
    for key in sorted(graph.asset_check_keys):
        check, (group, *names) = graph.get(key), key.asset_key.path
        place = f"{group}/{'*' if group == 'models' else '/'.join(names)}"
        claim = str(check.description).partition("\n")[0]
        told[f"| `{place}` | `{key.name}` | {'blocks' if check.blocking else 'warns'} | {claim} |"] = None
    return "\n".join(["| table | check | | claim |", "|---|---|---|---|", *told])


def _direct(made_of: dict[str, set[str]]) -> Iterator[tuple[str, str]]:
    """The arrows that no longer way stands for."""

    def all_above(group: str) -> set[str]:
        return made_of[group].union(*(all_above(above) for above in made_of[group]))

    for group, above in made_of.items():
        implied = set().union(*(all_above(one) for one in above))
        yield from ((one, group) for one in above - implied)


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
