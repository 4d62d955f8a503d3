-- One row per crypto bar: typed, numbered on its hourly clock, as its venue gave it.
select
    symbol, -- Instrument in exchange notation, base/quote
    bar_start, -- Start of the bar, UTC; the bar covers [bar_start, bar_end)
    bar_start + interval 1 hour as bar_end, -- End of the bar, UTC
    case when bar_start = date_trunc('hour', bar_start) then epoch(bar_start)::bigint // 3600 end
        as bar_number, -- Hours since 1970; consecutive bars differ by one; null where the bar is off the hour
    extract('isodow' from bar_start)::integer * 24 + extract('hour' from bar_start)::integer as season, -- Hour of the week
    open, -- First price
    high, -- Highest price
    low, -- Lowest price
    close, -- Last price
    volume, -- Units traded
    notional, -- Quote currency traded; null where the venue does not say
    trade_count, -- Number of trades
    taker_buy_volume, -- Units bought by takers
    split_ratio, -- New units per old unit on the first bar after a split
    venue -- Where the bar comes from
from raw.crypto_bars
