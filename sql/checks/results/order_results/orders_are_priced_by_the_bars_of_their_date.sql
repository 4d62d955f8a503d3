-- Equal slices, priced again from the bars of the date that a result names, cost what the result says.
with

twap_orders as (
    select asset_class, symbol, bar_start, arrival_slippage_bps
    from results.order_results
    where
        strategy = 'TWAP'
        and side = 'buy'
        and target = 'quantity'
        and benchmark = 'TWAP'
        and minimum_duration = $horizon
),

-- A row per bar of each window, from the one before: a join of ranges would compare each window with each bar.
windows as (
    select
        *,
        unnest(range(bar_number - 1, bar_number + $horizon)) as number
    from windows.order_windows
    where (asset_class, symbol, bar_start) in (
        select (asset_class, symbol, bar_start) from twap_orders
    )
),

bars as (
    select * from bars.market_bars
),

repriced as (
    select
        windows.asset_class,
        windows.symbol,
        windows.bar_start,
        -- The bar before the first one gives the arrival price.
        (avg(price) filter (where bars.bar_number >= windows.bar_number)
            / any_value(close) filter (where bars.bar_number < windows.bar_number) - 1) * 1e4 as expected_bps
    from windows
    inner join bars
        on bars.asset_class = windows.asset_class
        and bars.symbol = windows.symbol
        and bars.bar_number = windows.number
    group by all
)

select
    asset_class,
    symbol,
    bar_start,
    case
        when expected_bps is null then format('{} at {}: no order window begins there', symbol, bar_start)
        else format(
            '{} at {}: equal slices cost {:.2f} bps over arrival by the bars of that date, {:.2f} by the result',
            symbol, bar_start, expected_bps, arrival_slippage_bps
        )
    end as reason
from twap_orders
left join repriced using (asset_class, symbol, bar_start)
where not coalesce(abs(expected_bps - arrival_slippage_bps) < 0.1 + 1e-4 * abs(expected_bps), false)
