-- One row per bar of a symbol from some bar on: what it was, when it traded, what was known before it, and whether all of it was.
select
    market_bars.bar_number,
    market_bars.bar_start,
    coalesce(sessions.opens_at, market_bars.bar_start) as opens_at,
    market_bars.bar_end,
    market_bars.fault,
    market_bars.price as bar_price,
    market_bars.close as bar_close,
    market_bars.volume as bar_volume,
    -- As in training, where features rest on more than a handful of bars.
    coalesce(bar_features.is_complete and bar_features.history_bars >= 48, false) as is_known,
    bar_features.* exclude (asset_class, symbol, bar_start, bar_number, price, close, volume, is_complete)
from bars.market_bars
left join raw.nyse_sessions as sessions
    on market_bars.asset_class = 'dow' and market_bars.bar_start = sessions.bar_start
left join features.bar_features
    on market_bars.asset_class = bar_features.asset_class
    and market_bars.symbol = bar_features.symbol
    and market_bars.bar_number = bar_features.bar_number
where market_bars.symbol = $symbol and market_bars.bar_number is not null
qualify row_number() over (order by market_bars.bar_number desc) <= $rows
order by market_bars.bar_number
