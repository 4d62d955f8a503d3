"""All faults by name, and how they are written in text: ``slow-drip:every=5 status:code=429,first=2``."""

from pydantic import ValidationError

from lem_pipeline.errors import ConfigurationError
from lem_pipeline.replay import row_faults, wire_faults
from lem_pipeline.replay.faults import Fault

FAULTS: dict[str, type[Fault]] = {
    fault.name(): fault
    for fault in (
        wire_faults.Timeout,
        wire_faults.ConnectionReset,
        wire_faults.SlowDrip,
        wire_faults.Status,
        wire_faults.TruncatedBody,
        wire_faults.HtmlPage,
        row_faults.NoBars,
        row_faults.DuplicatedBar,
        row_faults.ContradictedBar,
        row_faults.UnorderedBars,
        row_faults.MissingBar,
        row_faults.HalfFormedBar,
        row_faults.NullField,
        row_faults.NanField,
        row_faults.MispricedBar,
        row_faults.InventedSplit,
        row_faults.UnappliedSplit,
    )
}


def parse(text: str) -> list[Fault]:
    """The faults that a text names, separated by spaces.

    Example:
        >>> [str(fault) for fault in parse("slow-drip status:code=429,first=2")]
        ['slow-drip', 'status:first=2,code=429']

    Raises:
        ConfigurationError: There is no such fault, or it has no such setting; the message names what there is.
    """
    return [_parse_one(words) for words in text.split()]


def described() -> dict[str, str]:
    """What each fault does, in a sentence, and its settings."""
    return {
        name: f"{(fault.__doc__ or '').splitlines()[0]} Settings: {', '.join(fault.model_fields)}."
        for name, fault in FAULTS.items()
    }


def _parse_one(words: str) -> Fault:
    name, _, rest = words.partition(":")
    if name not in FAULTS:
        raise ConfigurationError(f"there is no fault {name!r} to replay; there are {', '.join(FAULTS)}")
    pairs = [setting.partition("=") for setting in rest.split(",") if setting]
    try:
        return FAULTS[name].model_validate({key: value for key, _, value in pairs})
    except ValidationError as error:
        problem = error.errors()[0]
        raise ConfigurationError(
            f"fault {words!r} has a wrong setting {'.'.join(map(str, problem['loc']))}: {problem['msg']}; "
            f"{name} knows {', '.join(FAULTS[name].model_fields)}"
        ) from error
