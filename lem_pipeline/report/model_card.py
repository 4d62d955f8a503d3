"""What a registered model is for, what it was made of, how it fared, and where it must not be trusted: in Markdown."""

from collections.abc import Mapping

from lem_pipeline.gates import GATES
from lem_pipeline.report.rendering import SIMULATED_BANNER, SIMULATED_NOTE

_PURPOSE = (
    "A Large Execution Model: it slices a parent order into one child order per bar, to buy or to sell, against VWAP "
    "or TWAP, of a fixed quantity or notional, for every minimum duration up to its horizon. It is made for orders "
    "that are small beside the market and may finish early."
)
_LIMITS = (
    "It was tested on the bars named above. On other instruments, bar lengths or years its worth is unknown.",
    "Child orders fill at the average price of their bar, whatever their size; impact is charged beside that and moves "
    "no price.",
    "Most of what it gains over equal slices is the option to finish early, which needs no forecast: the column to "
    "look at is the gain over no-forecast stopping.",
)


def model_card(name: str, version: str, tags: Mapping[str, str], headline: str | None) -> str:
    """The card of a registered version.

    Args:
        name: Registered model.
        version: Its number.
        tags: Of the version: what it was made of, and the evidence of its gates.
        headline: Table of its test orders, in Markdown; None before it was tested.
    """
    run, page = tags.get("dagster.run_id"), tags.get("dagster.run_page")
    warning = [f"> **{SIMULATED_BANNER}.** {SIMULATED_NOTE}", ""] if tags.get("simulated") == "true" else []
    made_of = {
        "instruments": tags.get("data.symbols"),
        "trained and chosen on bars": f"{tags.get('data.from')} to {tags.get('data.chosen_until')}",
        "tested on bars until": tags.get("data.until"),
        "data snapshot": tags.get("data.snapshot"),
        "code": tags.get("code.version"),
        "Dagster run": f"[{run}]({page})" if run and page else run,
    }
    gates = {gate.replace("_", " "): tags.get(f"gate.{gate}") for gate in GATES}
    return "\n".join(
        [
            f"# {name}, version {version}",
            "",
            *warning,
            _PURPOSE,
            "",
            "## What it was made of",
            "",
            *(f"- {what}: {value}" for what, value in made_of.items() if value),
            "",
            "## How it fared",
            "",
            headline or "It was not tested yet.",
            "",
            "## Gates it passed",
            "",
            *(f"- {gate}: {evidence}" for gate, evidence in gates.items() if evidence),
            "",
            "## Limits",
            "",
            *(f"- {limit}" for limit in _LIMITS),
            "",
        ]
    )
