-- Every daily bar belongs to a session of the exchange calendar.
select
    asset_class,
    symbol,
    bar_start,
    'the exchange was closed on this date; correct the dates of the archive or remove the bar' as reason
from bars.market_bars
where bar_number is null
