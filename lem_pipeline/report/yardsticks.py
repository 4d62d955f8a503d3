"""Figures from outside this project against which its results are read."""

from dataclasses import dataclass

HORIZON = 12


@dataclass(frozen=True)
class Slippage:
    """A mean in bps and, where known, the standard deviation over orders; no standard error was published."""

    mean: float
    std: float | None = None


@dataclass(frozen=True)
class Published:
    """One column pair of the published results: VWAP orders of a fixed quantity.

    Attributes:
        setting: Asset class and bar length the figures were measured on.
        bar_minutes: That length.
        learned: Buy and sell slippage by minimum duration.
        naive: A buyer's equal slices against VWAP.
    """

    setting: str
    bar_minutes: int
    learned: dict[int, tuple[Slippage, Slippage | None]]
    naive: Slippage


# The paper counts what a seller gains as positive; its sell figures are turned here, so that positive is a
# cost on either side, as everywhere else in this project.
PUBLISHED = {
    "crypto": (
        Published(
            "crypto, 15 min bars",
            15,
            {
                6: (Slippage(-6.96, 32.7), Slippage(-8.81, 35.1)),
                9: (Slippage(-4.38), Slippage(-6.51)),
                11: (Slippage(-1.16), Slippage(-3.78)),
                12: (Slippage(1.13, 24.0), Slippage(-1.12)),
            },
            Slippage(1.30, 30.5),
        ),
        Published(
            "crypto, 90 min bars",
            90,
            {
                6: (Slippage(-18.5), Slippage(-20.4)),
                9: (Slippage(-12.3), Slippage(-14.1)),
                11: (Slippage(-4.65), Slippage(-7.08)),
                12: (Slippage(0.90, 50.5), None),
            },
            Slippage(1.05, 64.0),
        ),
        Published(
            "crypto, 250 min bars",
            250,
            {
                6: (Slippage(-35.3), Slippage(-33.8)),
                9: (Slippage(-23.8), Slippage(-21.2)),
                11: (Slippage(-10.3), Slippage(-9.06)),
                12: (Slippage(-0.61, 82.3), None),
            },
            Slippage(-1.15, 104.0),
        ),
    ),
    "dow": (
        Published(
            "Dow, daily bars",
            1440,
            {
                6: (Slippage(-29.3, 90.0), Slippage(-36.0, 86.0)),
                9: (Slippage(-13.9), Slippage(-25.6)),
                11: (Slippage(2.91), Slippage(-6.58)),
                12: (Slippage(9.61, 53.5), None),
            },
            Slippage(7.37, 64.3),
        ),
    ),
}


def published_for(asset_class: str, horizon: int) -> tuple[Published, ...]:
    """Published columns that can stand beside an asset class; none for other horizons."""
    return PUBLISHED.get(asset_class, ()) if horizon == HORIZON else ()
