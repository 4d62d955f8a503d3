"""What the columns of raw tables mean; those of later tables say so in their SQL."""

_BARS = {
    "symbol": "Instrument as the source names it",
    "bar_start": "Start of the bar, UTC; of a daily bar midnight of its session's date",
    "open": "First price",
    "high": "Highest price",
    "low": "Lowest price",
    "close": "Last price",
    "volume": "Units traded: coins or shares",
    "notional": "Quote currency traded; null where the source does not say",
    "trade_count": "Number of trades; null where the source does not say",
    "taker_buy_volume": "Units bought by takers; null where the source does not say",
    "adjusted_close": "Close as the source adjusts it for splits and dividends",
    "dividend": "Cash per share on its ex-date, else 0",
    "split_ratio": "New shares per old share on its ex-date, else 1",
    "splits_until": "Prices reflect every split with an ex-date up to here; null: every one that is stored",
    "venue": "Who served the bar",
}
_SERIES = {"raw_table": "Table of the bars", "symbol": _BARS["symbol"]}

RAW_COLUMNS = {
    "raw.crypto_bars": _BARS,
    "raw.dow_bars": _BARS,
    "raw.revisions": {
        **_SERIES,
        "bar_start": "Start of the bar, UTC",
        "field": "Column that the source gave differently, or `bar` for all of them",
        "old_value": "What the source said before",
        "new_value": "What it says now",
        "cause": "restated: differs from what was stored; repeated: twice in one answer; withdrawn: no longer answered",
        "seen_at": "When that was noticed, UTC",
    },
    "raw.fetched_periods": {
        **_SERIES,
        "fetched_from": "Start of the period that was asked for, UTC",
        "fetched_until": "Its end, exclusive",
        "fetched_at": "When it was asked for, UTC",
        "bars": "Bars in the answer",
    },
    "raw.nyse_sessions": {
        "bar_start": "Midnight UTC of the session's date, the label of a daily bar",
        "opens_at": "Opening, UTC",
        "closes_at": "Close, UTC, half days included",
        "session_number": "Sessions since the first of 2000; consecutive ones differ by one",
    },
    "raw.dow_members": {
        "company": "Member of the Dow Jones Industrial Average",
        "ticker": "Its ticker at the time",
        "symbol": "Series that vendors carry today; null where none has it any more",
        "member_from": "First day of the membership",
        "member_until": "Day after the last; null for members of today",
    },
}
