-- The bars that follow a symbol's last one on its clock, as unremarkable as can be: what is known before them does not read them.
with

last_bars as (
    select
        asset_class,
        symbol,
        bar_start,
        bar_end,
        close,
        venue
    from bars.market_bars
    where symbol = $symbol and bar_number is not null
    qualify row_number() over (order by bar_number desc) = 1
),

-- Around the clock one bar follows another; elsewhere they follow the calendar.
starts as (
    select bar_start + step * (bar_end - bar_start) as bar_start
    from last_bars
    cross join range(1, $horizon + 1) as steps (step)
    where asset_class <> 'dow'

    union all

    (
        select sessions.bar_start
        from raw.nyse_sessions as sessions
        inner join last_bars on sessions.bar_start > last_bars.bar_start
        where last_bars.asset_class = 'dow'
        order by sessions.bar_start
        limit $horizon
    )
)

select
    last_bars.symbol,
    starts.bar_start,
    last_bars.close as open,
    last_bars.close as high,
    last_bars.close as low,
    last_bars.close,
    1.0 as volume,
    1.0 as split_ratio,
    starts.bar_start as splits_until,
    last_bars.venue
from starts
cross join last_bars
