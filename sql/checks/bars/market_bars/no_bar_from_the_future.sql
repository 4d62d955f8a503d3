-- Every stored bar has ended.
select
    asset_class,
    symbol,
    bar_start,
    bar_end,
    'the bar ends in the future, so it is not final; check the clock and the archive''s time zone' as reason
from bars.market_bars
where bar_end > now()
