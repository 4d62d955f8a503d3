-- One row per bar that must exist: each bar of the clock or session from a symbol's first bar to the last that its source was asked for.
with

bars as (
    select asset_class, symbol, bar_start, bar_end, bar_number
    from bars.market_bars
    where bar_number is not null
),

fetched as (
    select
        split_part(split_part(raw_table, '.', 2), '_', 1) as asset_class,
        symbol,
        max(least(fetched_until, fetched_at)) as fetched_until
    from raw.fetched_periods
    group by all
),

series as (
    select
        bars.asset_class,
        bars.symbol,
        min(bars.bar_start) as first_bar,
        max(bars.bar_start) as last_bar,
        greatest(max(bars.bar_end), any_value(fetched.fetched_until)) as ends_at
    from bars
    left join fetched using (asset_class, symbol)
    group by all
),

clock as (
    select
        'crypto' as asset_class,
        bar_start,
        bar_start + to_minutes($crypto_bar_minutes) as bar_end,
        epoch_us(bar_start) // (60_000_000::bigint * $crypto_bar_minutes) as bar_number
    from (
        select unnest(generate_series(min(first_bar), max(ends_at), to_minutes($crypto_bar_minutes))) as bar_start
        from series
        where asset_class = 'crypto'
    )

    union all

    select 'dow' as asset_class, bar_start, closes_at as bar_end, session_number as bar_number
    from raw.nyse_sessions
)

select
    clock.asset_class, -- Family of instruments that trade on one clock
    series.symbol, -- Instrument
    clock.bar_start, -- Start of the bar, UTC
    clock.bar_number, -- Its place on the clock
    bars.bar_start is not null as is_stored, -- Whether the warehouse has the bar
    clock.bar_start > series.last_bar as is_after_the_last -- Whether no later bar of the symbol is stored either
from series
inner join clock
    on series.asset_class = clock.asset_class
    and clock.bar_start >= series.first_bar
    and clock.bar_end <= series.ends_at
left join bars
    on clock.asset_class = bars.asset_class
    and series.symbol = bars.symbol
    and clock.bar_start = bars.bar_start
