-- Recent bars with the last tenth of time overwritten by other, still plausible, bars.
with

future as (
    select
        asset_class,
        quantile_disc(bar_number, 0.9) as starts_at
    from recent
    group by asset_class
),

marked as (
    select
        recent.*,
        bar_number >= starts_at as is_future
    from recent
    inner join future using (asset_class)
)

select
    * exclude (is_future) replace (
        if(is_future, 3.0, 1.0) * open as open,
        if(is_future, 3.3, 1.0) * high as high,
        if(is_future, 2.7, 1.0) * low as low,
        if(is_future, 2.9, 1.0) * close as close,
        if(is_future, 7.0, 1.0) * volume as volume,
        if(is_future, 21.7, 1.0) * notional as notional,
        if(is_future, 3.1, 1.0) * price as price,
        if(is_future, 5.0, 1.0) * taker_buy_volume as taker_buy_volume,
        if(is_future, 4, 1) * trade_count as trade_count
    )
from marked
