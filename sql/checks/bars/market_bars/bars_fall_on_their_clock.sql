-- Every daily bar belongs to a session of the exchange calendar, every other one begins with a bar of its source's clock.
select
    asset_class,
    symbol,
    bar_start,
    case asset_class
        when 'crypto' then
            'the bar does not begin '
            || if(
                $crypto_source_bar_minutes = 60, 'on the hour',
                'at a multiple of ' || $crypto_source_bar_minutes || ' minutes'
            )
            || '; correct the times of the archive, or set crypto.source_bar_minutes to the length of its bars'
        else 'the exchange was closed on this date; correct the dates of the archive or remove the bar'
    end as reason
from bars.market_bars
where bar_number is null
