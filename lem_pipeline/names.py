"""Names that people choose and that end up in files, assets, SQL parameters and the lines of other programs."""

import re
from reprlib import Repr

_LONGEST, _LINE = 60, 200
_MODEL = re.compile(r"[a-z][a-z0-9-]*")
_INSTRUMENT = re.compile(r"\^?[A-Za-z0-9]+([./:=_&-][A-Za-z0-9]+)*")
_IDENTIFIER = re.compile(r"[A-Za-z0-9][ -~]*")
_SHORT = Repr()
_SHORT.maxstring = _LINE


def shown(text: str) -> str:
    r"""A name as a sentence has it: as it is where that is harmless, else quoted and cut to a line.

    Example:
        >>> print(shown("lem-crypto"), shown("a\nb"))
        lem-crypto 'a\nb'
    """
    return text if text.isprintable() and 0 < len(text) <= _LINE else quoted(text)


def quoted(text: str) -> str:
    """A text in quotes, in one line, and shortened in its middle where it is very long."""
    return _SHORT.repr(text)


def is_model_name(text: str) -> bool:
    """Whether a model may be called so: it names files, assets and an entry of the registry."""
    return len(text) <= _LONGEST and bool(_MODEL.fullmatch(text))


def model_name(text: str) -> str:
    """The name of a model.

    Raises:
        ValueError: It is none.
    """
    if not is_model_name(text):
        raise ValueError(f"{quoted(text)} names no model; use up to {_LONGEST} of a-z, 0-9 and -, such as lem-crypto")
    return text


def instrument(text: str) -> str:
    """The symbol of an instrument.

    Example:
        >>> [instrument(text) for text in ("BTC/USDT", "BTC/USDT:USDT", "BRK.B", "^GSPC", "EURUSD=X")][-1]
        'EURUSD=X'

    Raises:
        ValueError: It is none.
    """
    if len(text) > _LONGEST or not _INSTRUMENT.fullmatch(text):
        raise ValueError(
            f"{quoted(text)} is no symbol; use up to {_LONGEST} letters and digits, with one of . / : = _ & - between "
            "them, such as BTC/USDT or BRK.B"
        )
    return text


def identifier(text: str) -> str:
    """What an order or a fill is called: in a field of FIX or a cell of CSV, and nothing else than that.

    Raises:
        ValueError: It would end the field, or begin a formula.
    """
    if len(text) > _LONGEST or not _IDENTIFIER.fullmatch(text):
        raise ValueError(f"{quoted(text)} is no id; begin with a letter or digit, and use up to {_LONGEST} of ASCII")
    return text
