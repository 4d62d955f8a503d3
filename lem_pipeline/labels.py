"""Who answers for an asset, and the tags by which people find it: said once, for every asset."""

import dagster as dg

from lem_pipeline.settings import Settings

OWNERS = {
    "raw": "team:market-data",
    "staging": "team:market-data",
    "bars": "team:market-data",
    "quality": "team:market-data",
    "promotions": "team:execution-desk",
}
RESEARCH = "team:execution-research"  # owns whatever is not named above


def labelled(spec: dg.AssetSpec, chosen: Settings) -> dg.AssetSpec:
    """An asset with its owner and tags; what it says of itself stays."""
    owner = OWNERS.get(spec.group_name or "", RESEARCH)
    return spec.replace_attributes(owners=[*spec.owners] or [owner], tags=_tags(spec, chosen) | dict(spec.tags))


def _tags(spec: dg.AssetSpec, chosen: Settings) -> dict[str, str]:
    name = spec.key.path[-1]
    named = [*chosen.registered.get(name.replace("_", "-"), ())] or [a for a in chosen.markets if a in name.split("_")]
    classes = named or [*chosen.markets]
    is_simulated = any(chosen.market(asset_class).bars.source == "simulated" for asset_class in classes)
    return {"asset_class": "-and-".join(classes), "data": "simulated" if is_simulated else "real"}
