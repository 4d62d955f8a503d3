-- Every daily bar belongs to a session of the exchange calendar, every hourly one begins on the hour.
select
    asset_class,
    symbol,
    bar_start,
    case asset_class
        when 'crypto' then 'the bar does not begin on the hour; correct the times of the archive or make its bars hourly'
        else 'the exchange was closed on this date; correct the dates of the archive or remove the bar'
    end as reason
from bars.market_bars
where bar_number is null
