"""What the columns mean that many tables of orders and results share."""

_PARTS = {
    "mean": "Mean",
    "low": "Lower end of the mean's 95 % interval",
    "high": "Upper end of it",
    "minimum_detectable": "The mean that a test at 5 % would find with a power of 80 %",
}
_MEASURES = {
    "bps": "gain on the benchmark over the realised window",
    "sigma": "gain on the benchmark, in volatilities of one bar",
    "fixed_window_bps": "gain on the benchmark over the whole horizon",
    "arrival_bps": "gain on the last close before the order",
}

SHARED = {
    "model": "Registered model the orders belong to",
    "strategy": "LEM, or a baseline on the same orders",
    "asset_class": "Family of instruments that trade on one clock",
    "symbol": "Instrument",
    "bar_start": "Start of the order's first bar, UTC",
    "side": "buy or sell",
    "benchmark": "What the order is measured by: VWAP or TWAP of the bars it was worked in",
    "target": "What the order fixes: quantity or notional",
    "minimum_duration": "Bars that the order lasts at least; the horizon: exactly",
    "order_windows": "Order windows behind the mean",
    "days": "UTC days they begin in",
    **{f"{part}_{unit}": f"{text}: {what}" for part, text in _PARTS.items() for unit, what in _MEASURES.items()},
}
